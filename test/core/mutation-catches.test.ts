/** The mutation fuzzer is there to notice mistakes: each of these, put into the core on purpose, it does notice. */

import { describe, expect, test } from 'vitest';
import { mutate } from '../../fuzz/mutation/mutate.js';
import { drawOriginal, makeOwnOriginals } from '../../fuzz/mutation/originals.js';
import { Failure, Progress, tryMutant } from '../../fuzz/mutation/trial.js';
import { Random } from '../../fuzz/simulator/random.js';
import { loadCore } from '../../host/node/index.js';
import { compileMutated, type Mutation } from './mutated-core.js';

const MUTANTS = 3000;

const mistakes: (Mutation & { mistake: string; says: RegExp })[] = [
  {
    mistake: 'a table may lie behind the end of the file',
    file: 'format/header.ts',
    find: 'if (wrong || offset > info.fileLength || length > info.fileLength - offset) {',
    replace: 'if (wrong) {',
    says: /^read of \d+ bytes at \d+|beyond 2\^53-1/,
  },
  {
    mistake: 'new entries have no COPIED flag',
    file: 'format/l2-entry.ts',
    find: 'return hostOffset | COPIED;',
    replace: 'return hostOffset;',
    says: /is not after it was written/,
  },
  {
    mistake: 'new clusters have no refcount',
    file: 'format/refcount-entry.ts',
    find: 'u16(value)',
    replace: 'u16(0)',
    says: /is not after it was written/,
  },
  {
    mistake: 'compressed clusters that share a host cluster are counted once',
    file: 'image/pack.ts',
    find: 'storeRefcount(slice.data, index, image.geometry.refcountOrder, refcount + 1);',
    replace: 'storeRefcount(slice.data, index, image.geometry.refcountOrder, refcount);',
    says: /is not after it was written/,
  },
  {
    mistake: 'the bits of a bitmap may lie behind the end of the file',
    file: 'image/bitmap-bits.ts',
    find: 'if (bitsOffset(entry) < fileLength) return Status.Ok;',
    replace: 'if (entry !== 2) return Status.Ok;',
    says: /^read of \d+ bytes at \d+|beyond 2\^53-1/,
  },
  {
    mistake: 'a snapshot counts nothing of what it shares',
    file: 'control/snapshot-create.ts',
    find: 'startWalk(walkOf(image), WalkMode.Raise, image.l1Offset, image.l1Size, true);',
    replace: 'startWalk(walkOf(image), WalkMode.Raise, image.l1Offset, 0, true);',
    says: /is not after it was written/,
  },
  {
    mistake: 'a disk that becomes shorter loses the cluster in which it ends',
    file: 'control/resize.ts',
    find: 'task.cursor = alignUp(min(image.virtualSize, resize.newSize), clusterSize);',
    replace: 'task.cursor = min(image.virtualSize, resize.newSize) & ~(clusterSize - 1);',
    says: /^guest byte \d+, which nobody wrote/,
  },
  {
    mistake: 'refcounts of another width do not count the blocks that hold them',
    file: 'control/amend-refcounts.ts',
    find: 'storeRefcount(image.scratch, u32(change.cursor - change.sliceStart), change.order, 1);',
    replace: 'storeRefcount(image.scratch, u32(change.cursor - change.sliceStart), change.order, 0);',
    says: /is not after it was written/,
  },
];

describe('the mutation fuzzer notices', () => {
  test.each(mistakes)('that $mistake', { timeout: 120_000 }, async ({ says, ...mutation }) => {
    const core = await compileMutated(mutation);
    const originals = await makeOwnOriginals(loadCore());

    const failures: string[] = [];
    for (let seed = 1; seed <= MUTANTS && failures.length === 0; seed++) {
      const random = new Random(seed);
      const original = drawOriginal(random, originals);
      const { bytes } = mutate(random, original.bytes, original.layout);
      await tryMutant(core, random, { original, bytes }, new Progress()).catch((error: unknown) => {
        if (!(error instanceof Failure)) throw error;
        failures.push(error.message);
      });
    }

    expect(failures[0]).toMatch(says);
  });
});
