/** A device with swap space on it is not taken away. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { refuseSwap } from '../../host/node/swap-use.js';
import { temporaryFolder } from '../temporary-folder.js';

function swapsOf(...names: readonly string[]): string {
  const path = join(temporaryFolder(), 'swaps');
  const lines = names.map((name) => `${name}  partition\t8388604\t0\t-2\n`);
  writeFileSync(path, `Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n${lines.join('')}`);
  return path;
}

test.each(['/dev/ublkb3', '/dev/ublkb3p2'])('swap on %s keeps device 3, and says what to do', async (name) => {
  const swaps = swapsOf('/dev/sda2', name);

  await expect(refuseSwap(3, swaps)).rejects.toMatchObject({
    code: 'ERR_LOCKED',
    message: expect.stringContaining(`swapoff ${name}`),
  });
});

test.each([
  ['another device', ['/dev/ublkb33', '/dev/ublkb1p3']],
  ['a file that only has its name', ['/somewhere/ublkb3']],
  ['nothing', []],
])('swap on %s does not matter', async (_what, names) => {
  await expect(refuseSwap(3, swapsOf(...names))).resolves.toBeUndefined();
});

test('a kernel that does not tell has none', async () => {
  await expect(refuseSwap(3, '/no/such/file')).resolves.toBeUndefined();
});
