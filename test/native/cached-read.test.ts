import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NodeFile } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';

async function fileOf(bytes: Uint8Array): Promise<NodeFile> {
  const path = join(temporaryFolder(), 'file');
  writeFileSync(path, bytes);
  return NodeFile.open(path);
}

test('what was just written is read as it is, and zeros behind the end', async () => {
  const file = await fileOf(Buffer.from('hello, world'));
  const [inside, across, behind] = [Buffer.alloc(5), Buffer.alloc(8, 1), Buffer.alloc(4, 1)];

  await Promise.all([file.read(7, inside), file.read(7, across), file.read(100, behind)]);
  await file.close();

  expect([inside, across, behind].map((bytes) => bytes.toString('latin1'))).toEqual([
    'world',
    'world\0\0\0',
    '\0\0\0\0',
  ]);
});

test('a chain of reads lets timers have their turn', async () => {
  const file = await fileOf(Buffer.alloc(65536, 3));
  let fired = false;
  const timer = setTimeout(() => {
    fired = true;
  }, 1);

  const target = Buffer.alloc(4096);
  for (let count = 0; !fired && count < 1_000_000; count++) await file.read(4096, target);
  clearTimeout(timer);
  await file.close();

  expect(fired).toBe(true);
});
