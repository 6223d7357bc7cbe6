/** After a failed flush nobody knows what is on disk: nothing may be built on it. */

import { describe, expect, test } from 'vitest';
import { Image } from '../../host/image.js';
import { MemoryFile } from '../../host/memory-file.js';
import { loadCore } from '../../host/node/core.js';
import { compileMutated } from './mutated-core.js';

const CLUSTER = 512;
const MIB = 1 << 20;
/** More than the refcount table of a new image with these clusters, and refcounts of 64 bits, can count. */
const WRITTEN = 2.5 * MIB;
const PIECE = 64 * 1024;
/** Flushes before and after the table's growth that are tried. */
const AROUND = 6;
/** Turns of the event loop that a flush takes. */
const TURNS = 10;

/** Fails one flush, and notes what is written to the header afterwards. */
class FailingFile extends MemoryFile {
  flushes = 0;
  headerWrites = 0;
  headerWritesAfterFailure = 0;
  /** Flushes when the header was written. */
  flushesBeforeHeader = 0;
  failing = Number.POSITIVE_INFINITY;

  /** Takes so long that others go on meanwhile. */
  override async flush(): Promise<void> {
    const fails = ++this.flushes === this.failing;
    for (let turn = 0; turn < TURNS; turn++) await new Promise((resolve) => setImmediate(resolve));
    if (fails) throw Object.assign(new Error('lost'), { code: 'EIO' });
    await super.flush();
  }

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (offset < CLUSTER) {
      this.headerWrites++;
      this.flushesBeforeHeader = this.flushes;
      if (this.flushes >= this.failing) this.headerWritesAfterFailure++;
    }
    await super.write(offset, pieces);
  }
}

describe('the refcount table', () => {
  /** Fills a disk until the refcount table has to grow, with flushes of the guest's in between. */
  async function fill(core: WebAssembly.Module, failing: number): Promise<FailingFile> {
    const file = new FailingFile();
    const options = { core: loadCore(), virtualSize: 2 * WRITTEN, clusterSize: CLUSTER, refcountBits: 64 };
    await Image.create(file, options);
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
    const { headerWrites, flushesBeforeHeader } = await fill(loadCore(), Number.POSITIVE_INFINITY);
    expect(headerWrites).toBe(1);
    let writes = 0;
    for (let failing = flushesBeforeHeader - AROUND; failing <= flushesBeforeHeader + AROUND; failing++) {
      writes += (await fill(core, failing)).headerWritesAfterFailure;
    }
    return writes;
  }

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
