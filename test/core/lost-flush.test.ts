/** After a failed flush nobody knows what is on disk: nothing may be built on it. */

import { describe, expect, test } from 'vitest';
import { Image } from '../../host/image.js';
import { MemoryFile } from '../../host/memory-file.js';
import { loadCore } from '../../host/node/core.js';
import { compileMutated } from './mutated-core.js';

const CLUSTER = 512;
const MIB = 1 << 20;
/** More than the refcount table of a new image with these clusters can count. */
const WRITTEN = 10 * MIB;
const PIECE = 64 * 1024;

/** Fails one flush, and notes what is written to the header afterwards. */
class FailingFile extends MemoryFile {
  flushes = 0;
  headerWrites = 0;
  headerWritesAfterFailure = 0;
  failing = Number.POSITIVE_INFINITY;

  override async flush(): Promise<void> {
    if (++this.flushes === this.failing) throw Object.assign(new Error('lost'), { code: 'EIO' });
    await super.flush();
  }

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (offset < CLUSTER) {
      this.headerWrites++;
      if (this.flushes >= this.failing) this.headerWritesAfterFailure++;
    }
    await super.write(offset, pieces);
  }
}

/** Fills a disk until the refcount table has to grow, with flushes of the guest's in between. */
async function fill(core: WebAssembly.Module, failing: number): Promise<FailingFile> {
  const file = new FailingFile();
  await Image.create(file, { core: loadCore(), virtualSize: 2 * WRITTEN, clusterSize: CLUSTER });
  const image = await Image.open(file, { core, write: true, cacheSize: 0 });
  file.flushes = 0;
  file.headerWrites = 0;
  file.failing = failing;
  const piece = new Uint8Array(PIECE).fill(0x61);
  for (let offset = 0; offset < WRITTEN; offset += 4 * PIECE) {
    const work: Promise<void>[] = [];
    for (let part = 0; part < 4; part++) {
      work.push(image.write(offset + part * PIECE, piece), image.flush());
    }
    await Promise.allSettled(work);
  }
  return file;
}

/** Header writes after the failure, for every flush around the growth of the table that may be the one which fails. */
async function headerWritesAfterEachFailure(core: WebAssembly.Module): Promise<number> {
  const { flushes, headerWrites } = await fill(loadCore(), Number.POSITIVE_INFINITY);
  expect(headerWrites).toBe(1);
  let writes = 0;
  for (let failing = 1; failing <= flushes; failing += 2) {
    writes += (await fill(core, failing)).headerWritesAfterFailure;
  }
  return writes;
}

describe('the refcount table', () => {
  test('is not replaced any more after a flush that was lost', async () => {
    expect(await headerWritesAfterEachFailure(loadCore())).toBe(0);
  });

  test('would be, if the failure were forgotten', async () => {
    const core = await compileMutated({
      file: 'cache/write-order.ts',
      find: '      order.broken = true;\n      noteFailure(order, status, Structure.File, 0, operation);',
      replace: '      noteFailure(order, status, Structure.File, 0, operation);',
    });

    expect(await headerWritesAfterEachFailure(core)).toBeGreaterThan(0);
  });
});
