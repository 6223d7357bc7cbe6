/** A bitmap whose disabling did not reach the disk is still an enabled one: it must miss nothing. */

import { describe, expect, test } from 'vitest';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { compileMutated } from './mutated-core.js';

const CLUSTER = 65536;

/** Nothing can be written to some clusters of this file once `locked` has them. */
class LockedFile extends MemoryFile {
  readonly locked = new Set<number>();

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (this.locked.has(Math.floor(offset / CLUSTER))) throw Object.assign(new Error('locked'), { code: 'EIO' });
    await super.write(offset, pieces);
  }
}

/** Whether the disk has changed after a bitmap could not be disabled, and the bitmap on disk says nothing of it. */
async function missesChange(core: WebAssembly.Module): Promise<boolean> {
  const file = new LockedFile();
  await Image.create(file, { core: loadCore(), virtualSize: 16 * CLUSTER, clusterSize: CLUSTER });
  const made = await Image.open(file, { core: loadCore(), write: true });
  await made.write(0, new Uint8Array(CLUSTER).fill(1));
  await made.bitmaps.add('kept');
  await made.close();
  const image = await Image.open(file, { core, write: true });
  file.locked.add(directoryCluster(file));
  await expect(image.bitmaps.disable('kept')).rejects.toMatchObject({ code: 'ERR_IO' });

  await image.write(0, new Uint8Array(512).fill(2)).catch(() => {});
  await image.flush().catch(() => {});

  // As a power cut would leave it now.
  await using left = await Image.open(new MemoryFile(file.contents(), true), { core: loadCore() });
  const found = new Uint8Array(512);
  await left.read(0, found);
  const [bitmap] = await left.bitmaps.list();
  expect(bitmap).toMatchObject({ name: 'kept' });
  if (found[0] === 1 || bitmap?.inconsistent) return false;
  for await (const { offset } of left.bitmaps.ranges('kept')) if (offset === 0) return false;
  return true;
}

/** The cluster that the directory of the bitmaps begins in: the last field of the header's extension for bitmaps. */
function directoryCluster(file: MemoryFile): number {
  const header = Buffer.from(file.contents().subarray(0, CLUSTER));
  for (let at = header.readUInt32BE(100); header.readUInt32BE(at) !== 0; ) {
    if (header.readUInt32BE(at) === 0x23852875) return Number(header.readBigUInt64BE(at + 24)) / CLUSTER;
    at += 8 + Math.ceil(header.readUInt32BE(at + 4) / 8) * 8;
  }
  throw new Error('no bitmaps');
}

describe('a bitmap that could not be disabled', () => {
  test('does not miss what changes then', async () => {
    expect(await missesChange(loadCore())).toBe(false);
  });

  test('would miss it, if it were no longer kept', async () => {
    const core = await compileMutated({
      file: 'control/bitmap-change.ts',
      find: '    if (enables) {\n      untrack(image, work.entryOffset);\n',
      replace: '    untrack(image, work.entryOffset);\n    if (enables) {\n',
    });

    expect(await missesChange(core)).toBe(true);
  });
});
