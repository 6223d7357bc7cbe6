/** `npm run bench`: every measurement, one after the other, each next to QEMU in the same run. Not a test. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

for (const name of ['ring-read.mjs', 'ring-write.mjs']) {
  execFileSync(process.execPath, [fileURLToPath(new URL(name, import.meta.url)), ...process.argv.slice(2)], {
    stdio: 'inherit',
  });
}
