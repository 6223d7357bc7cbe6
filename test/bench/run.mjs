/**
 * Every measurement, one after the other, each next to QEMU in the same run. Not a test.
 *
 *   npm run bench                    all
 *   npm run bench -- NAME [ROUNDS]   one of them
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const NAMES = ['ring-read', 'ring-write', 'workers', 'ublk', 'engine', 'convert', 'start', 'nbd', 'inspect', 'browser'];
const [wanted = '', ...rest] = process.argv.slice(2);
const known = NAMES.includes(wanted);
if (!known && /^[a-z]/.test(wanted)) throw new Error(`no benchmark ${wanted}; there are ${NAMES.join(', ')}`);
for (const name of known ? [wanted] : NAMES) {
  const args = known ? rest : process.argv.slice(2);
  execFileSync(process.execPath, [fileURLToPath(new URL(`${name}.mjs`, import.meta.url)), ...args], {
    stdio: 'inherit',
  });
}
