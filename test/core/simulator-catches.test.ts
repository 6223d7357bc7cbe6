/** The simulator is worth what it catches: every test here breaks something on purpose and expects it to be noticed. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Random } from '../../fuzz/simulator/random.js';
import { drawScenario, type Scenario } from '../../fuzz/simulator/scenario.js';
import type { Sabotage } from '../../fuzz/simulator/simulated-disk.js';
import { type SimulationOptions, simulate } from '../../fuzz/simulator/simulation.js';
import { compileMutated, type Mutation } from './mutated-core.js';

/** Most mistakes show within a few hundred; those of verbs that few seeds draw take longer. */
const SEEDS = 2500;
/** Compiling a core and running all those seeds, on a machine that does other things too. */
const TIMEOUT = 180_000;

/** What the first failing seed says; undefined when none of them fails. Only seeds that draw such a scenario are run. */
function firstFailure(
  options: SimulationOptions,
  only: (scenario: Scenario) => boolean = () => true,
): string | undefined {
  for (let seed = 1; seed <= SEEDS; seed++) {
    if (!only(drawScenario(new Random(seed), options.focus))) continue;
    const { failure } = simulate(seed, options);
    if (failure !== undefined) return failure;
  }
  return undefined;
}

describe('a disk that breaks its promises is noticed:', () => {
  const module = new WebAssembly.Module(readFileSync(join(import.meta.dirname, '../../dist/corral.wasm')));
  const sabotages: Record<string, Sabotage> = {
    'a flush that does nothing': { flushDoesNothing: true },
    'every second flush does nothing': { halfOfTheFlushesDoNothing: true },
    'writes are answered before they are done': { answersEarly: true },
  };

  for (const [name, sabotage] of Object.entries(sabotages)) {
    test(name, () => {
      const failure = firstFailure({ module, sabotage });

      expect(failure).toBeDefined();
    });
  }
});

describe('a core that breaks its own order is noticed:', () => {
  /** With `growth`, only seeds that make the refcount table grow are tried; with `only`, seeds that draw such a scenario. */
  const mutations: Record<string, Mutation & { focus?: 'growth'; only?: (scenario: Scenario) => boolean }> = {
    'no flush between refcounts and mappings': {
      focus: 'growth',
      file: 'cache/write-order.ts',
      find: 'if (order.unflushed && order.stagedTable.count + order.stagedMappings.count !== 0) handOutFlush(order);',
      replace: '',
    },
    'no flush between refcount table and mappings': {
      focus: 'growth',
      file: 'cache/write-order.ts',
      find: 'if (order.unflushed && order.stagedMappings.count !== 0) handOutFlush(order);',
      replace: '',
    },
    'mappings are copied when they are written, not when the round begins': {
      file: 'cache/write-order.ts',
      find: '  const length = u32(1) << order.cache.sliceBits;\n  writeModule(',
      replace:
        '  const length = u32(1) << order.cache.sliceBits;\n  memory.copy(slice.staged, slice.data, length);\n  writeModule(',
    },
    'completed writes are not flushed': {
      file: 'scheduler.ts',
      find: 'if (operation.owner !== Owner.WriteOut) image.order.unflushed = true;',
      replace: '',
    },
    'a failed flush is forgotten': {
      file: 'cache/write-order.ts',
      find: '      order.broken = true;\n      noteFailure(order, status, Structure.File, 0, operation);\n    }\n  } else {',
      replace: '      noteFailure(order, status, Structure.File, 0, operation);\n    }\n  } else {',
    },
    'a failed flush of the refcount growth is forgotten': {
      focus: 'growth',
      file: 'scheduler.ts',
      find: 'if (kind === OperationKind.Flush) noteFailedFlush(image.order, status, index);',
      replace: '',
    },
    'entries appear before their data is written': {
      file: 'request/write.ts',
      find: '      if (task.outstanding !== 0) return Status.Miss;\n      const status = linkNewClusters(image, task);',
      replace: '      const status = linkNewClusters(image, task);',
    },
    'what was in a cluster before shows around new data': {
      file: 'request/write.ts',
      find: '  if (task.virgin && task.scratch === 0) {',
      replace: '  if (task.fresh && task.scratch === 0) {',
    },
    'clusters are free before the table that named them is durable': {
      file: 'cache/write-order.ts',
      find: 'moveRuns(order.dropped, order.settling);\n    moveAll',
      replace: 'moveRuns(order.dropped, order.reclaimable);\n    moveAll',
    },
    'clusters are free when a discard of them still runs': {
      file: 'image/reclaim.ts',
      find: '        return parkOnOperation(task);\n',
      replace: '        task.outstanding++;\n        continue;\n',
    },
    'a cluster that was used before passes for a new one': {
      file: 'image/allocate.ts',
      find: '  image.allocatedVirgin = false;\n',
      replace: '  image.allocatedVirgin = true;\n',
    },
    'a new L2 table keeps what was there before': {
      file: 'image/l2-table.ts',
      find: 'task.tableOffset, image.geometry.clusterSize);',
      replace: 'task.tableOffset, 512);',
    },
    'the header names a refcount table that is not durable': {
      focus: 'growth',
      file: 'image/grow-refcounts.ts',
      find: '      image.growthStage = Stage.ReadHeader;\n      return flushFile(image, task);',
      replace: '      image.growthStage = Stage.ReadHeader;\n      return Status.Ok;',
    },
    'the old refcount table is free before the header is durable': {
      focus: 'growth',
      file: 'image/header-sector.ts',
      find: '      image.headerStage = Stage.Flush;\n      flush(image.operations, Owner.Task, changetype<usize>(task));\n      return parkOnOperation(task);',
      replace: '      releaseHeaderSector(image);\n      return Status.Ok;',
    },
    'the header names an L1 table that is not durable': {
      file: 'control/grow-l1.ts',
      find: '      requestFlush(image.order, task);\n      return Status.Miss;',
      replace: '      return Status.Ok;',
    },
    'a disk is shorter before the clusters behind its end are gone': {
      file: 'control/resize.ts',
      find: '  requestFlush(image.order, task);\n  return Status.Miss;',
      replace: '  return Status.Ok;',
    },
    'what is new on a longer disk keeps old bytes': {
      file: 'scheduler.ts',
      find: '      const status = stepWriteZeroes(image, task);\n      if (status !== Status.Ok) return status;\n      endZeroingNew',
      replace: '      endZeroingNew',
    },
    'requests that overlap do not wait for each other': {
      file: 'request/in-flight.ts',
      find: 'if (writes && other.guestOffset < task.guestEnd',
      replace: 'if (writes && other.guestOffset > task.guestEnd',
    },
    'two writes allocate the same guest cluster': {
      file: 'request/write.ts',
      find: 'if (waitForAllocation(image, task)) return Status.Miss;',
      replace: '',
    },
    'a shared L2 table is changed in place': {
      file: 'image/mapping.ts',
      find: 'run.tableShared = !isL1Copied(l1Entry);',
      replace: 'run.tableShared = false;',
    },
    'a shared cluster is overwritten': {
      file: 'request/write.ts',
      find: 'if (run.kind === ExtentKind.Data && run.copied)',
      replace: 'if (run.kind === ExtentKind.Data)',
    },
    'a cluster is written before what surrounds the new bytes is read': {
      file: 'request/write.ts',
      find: '      if (task.scratch !== 0 && task.outstanding !== 0) return Status.Miss;\n',
      replace: '',
    },
    'a copied L2 table is named before it is durable': {
      file: 'image/l2-table.ts',
      find: '  return parkOnOperation(task);\n}\n\nfunction releaseOwnership',
      replace: '  task.outstanding++;\n  return copySlice(image, task, shared);\n}\n\nfunction releaseOwnership',
    },
    'what lies behind shows where zeros were discarded': {
      file: 'request/discard.ts',
      find: 'image.version >= 3 ? discardedReplacement(image) : Replacement.Unallocated',
      replace: 'Replacement.Unallocated',
    },
    'refcounts stay behind before the header says so': {
      file: 'image/lazy-refcounts.ts',
      find: 'changeFeatures(image, task, INCOMPATIBLE_DIRTY, 0)',
      replace: 'Status.Ok',
    },
    'refcounts stay behind when the header does not say so any more': {
      file: 'image/lazy-refcounts.ts',
      find: '  image.order.lazy = false;\n',
      replace: '',
    },
    'a cancelled write stops between two refcount tables': {
      focus: 'growth',
      file: 'scheduler.ts',
      find: ' && !isSwitching(image, task) && !task.committed) {',
      replace: ') {',
    },
    'subclusters that nobody wrote are marked as written': {
      only: ({ extended }) => extended,
      file: 'request/new-clusters.ts',
      find: 'const first = u32((max(start, task.edgeStart) - start) >> bits);',
      replace: 'const first: u32 = 0;',
    },
    'the first cluster of a data file passes for none': {
      only: ({ dataFile }) => dataFile !== 'none',
      file: 'image/mapping-host.ts',
      find: 'return image.hasDataFile && isCopied(entry) && !isZero(entry) ? 0 : NO_HOST;',
      replace: 'return NO_HOST;',
    },
    'compressed clusters in one host cluster count once': {
      only: ({ compressedWrites }) => compressedWrites,
      file: 'image/pack.ts',
      find: 'image.geometry.refcountOrder, refcount + 1);',
      replace: 'image.geometry.refcountOrder, refcount);',
    },
    'a snapshot is named before it is durable': {
      only: ({ snapshotRequests }) => snapshotRequests,
      file: 'control/snapshot-create.ts',
      find: '      return flushAll(image, task, Stage.ReadHeader);',
      replace: '      task.stage = Stage.ReadHeader;\n      break;',
    },
    'what lies behind shows where a disk became longer': {
      only: ({ backingLength }) => backingLength > 0,
      file: 'control/resize.ts',
      find: '(resize.flags & ResizeFlag.ZeroNew) !== 0 ? end : ',
      replace: '',
    },
  };

  for (const [name, { focus, only, ...mutation }] of Object.entries(mutations)) {
    test(
      name,
      async () => {
        const module = await compileMutated(mutation);

        const failure = firstFailure({ module, ...(focus === undefined ? {} : { focus }) }, only);

        expect(failure).toBeDefined();
      },
      TIMEOUT,
    );
  }
});
