/** The simulator is worth what it catches: every test here breaks something on purpose and expects it to be noticed. */

import { describe, test } from 'vitest';
import type { Emphasis, Scenario } from '../../fuzz/simulator/scenario.js';
import type { Sabotage } from '../../fuzz/simulator/simulated-disk.js';
import { CATCH_TIMEOUT, expectCaught, expectFailure, type Mistake, shippedCore } from './caught.js';

/** Every life makes the refcount table grow. */
const GROWTH: Emphasis = { focus: 'growth' };
/** Nothing that is slow to compare. */
const isSmall = ({ virtualSize, regular, dataFile }: Scenario) =>
  regular && dataFile === 'none' && virtualSize <= 2 ** 21;

describe('a disk that breaks its promises is noticed:', () => {
  const module = shippedCore();
  const sabotages: Record<string, Sabotage> = {
    'a flush that does nothing': { flushDoesNothing: true },
    'every second flush does nothing': { halfOfTheFlushesDoNothing: true },
    'writes are answered before they are done': { answersEarly: true },
  };

  for (const [name, sabotage] of Object.entries(sabotages)) {
    test(name, () => {
      expectFailure({ module, sabotage });
    });
  }
});

describe('a core that breaks its own order is noticed:', () => {
  const mistakes: Record<string, Mistake> = {
    'no flush between refcounts and mappings': {
      emphasis: {
        ...GROWTH,
        plan: { requests: 25, imaginedCuts: 0.3 },
        temper: { flushTime: 40 },
        habits: { reads: 0, writes: 6, flushes: 1 },
      },
      file: 'cache/write-order.ts',
      find: 'if (order.unflushed && order.stagedTable.count + order.stagedMappings.count !== 0) handOutFlush(order);',
      replace: '',
    },
    'no flush between refcount table and mappings': {
      emphasis: {
        ...GROWTH,
        plan: { requests: 25, imaginedCuts: 0.3 },
        temper: { flushTime: 40 },
        habits: { reads: 0, writes: 6, flushes: 1 },
      },
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
      emphasis: {
        plan: { requests: 40, troubleUntil: 40 },
        temper: { flushErrors: 0.3 },
        habits: { flushes: 6 },
      },
      file: 'cache/write-order.ts',
      find: '      order.broken = true;\n      noteFailure(order, status, Structure.File, 0, operation);\n    }\n  } else {',
      replace: '      noteFailure(order, status, Structure.File, 0, operation);\n    }\n  } else {',
    },
    'a failed flush of the refcount growth is forgotten': {
      emphasis: {
        ...GROWTH,
        plan: { requests: 25, troubleUntil: 25 },
        temper: { flushErrors: 0.3 },
        habits: { writes: 6, flushes: 6 },
      },
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
      only: isSmall,
      emphasis: {
        scenario: { requestCapacity: 8, keepsDiscarded: false },
        plan: { requests: 60, imaginedCuts: 0.1, eagerness: 0.6 },
        temper: { dataTime: 2, tableTime: 8, flushTime: 40 },
        habits: { reads: 0, writes: 6, discards: 4, flushes: 3 },
      },
      file: 'cache/write-order.ts',
      find: 'moveRuns(order.dropped, order.settling);\n    moveAll',
      replace: 'moveRuns(order.dropped, order.reclaimable);\n    moveAll',
    },
    'clusters are free when a discard of them still runs': {
      only: isSmall,
      emphasis: {
        scenario: { requestCapacity: 8, keepsDiscarded: false },
        plan: { requests: 60, eagerness: 0.6 },
        temper: { dataTime: 40 },
        habits: { writes: 6, discards: 4, flushes: 3 },
      },
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
      emphasis: GROWTH,
      file: 'image/grow-refcounts.ts',
      find: '      image.growthStage = Stage.ReadHeader;\n      return flushFile(image, task);',
      replace: '      image.growthStage = Stage.ReadHeader;\n      return Status.Ok;',
    },
    'the old refcount table is free before the header is durable': {
      emphasis: GROWTH,
      file: 'image/header-sector.ts',
      find: '      image.headerStage = Stage.Flush;\n      flush(image.operations, Owner.Task, changetype<usize>(task));\n      return parkOnOperation(task);',
      replace: '      releaseHeaderSector(image);\n      return Status.Ok;',
    },
    'the header names an L1 table that is not durable': {
      only: ({ clusterBits, dataFile, backingLength }) =>
        clusterBits === 9 && dataFile === 'none' && backingLength === 0,
      emphasis: {
        scenario: { bitmaps: false },
        plan: { requests: 12, resizes: 0.5, imaginedCuts: 0.2 },
        temper: { flushTime: 40 },
      },
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
      only: (scenario) => isSmall(scenario) && scenario.backingLength > 0,
      emphasis: { plan: { requests: 12, resizes: 0.5, imaginedCuts: 0.05 } },
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
      only: ({ requestCapacity }) => requestCapacity >= 4,
      emphasis: { plan: { requests: 60, eagerness: 0.95 }, habits: { locality: 1, spread: 4096, longest: 1024 } },
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
      only: (scenario) => isSmall(scenario) && (scenario.backingLength > 0 || scenario.snapshots > 0),
      emphasis: { plan: { requests: 40 }, temper: { readTime: 40, dataTime: 1 }, habits: { writes: 6, longest: 1024 } },
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
      only: ({ version, backingLength }) => version === 3 && backingLength > 0,
      emphasis: { plan: { requests: 20 }, habits: { reads: 3, discards: 6 } },
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
      only: (scenario) => isSmall(scenario) && scenario.lazyRefcounts,
      emphasis: { plan: { requests: 30, amends: 0.2, imaginedCuts: 0.05 }, habits: { writes: 6, flushes: 3 } },
      file: 'image/lazy-refcounts.ts',
      find: '  image.order.lazy = false;\n',
      replace: '',
    },
    'a cancelled write stops between two refcount tables': {
      emphasis: {
        ...GROWTH,
        plan: { requests: 25, cancels: 0.3 },
        temper: { flushTime: 40 },
        habits: { reads: 0, writes: 6, flushes: 1 },
      },
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
      only: (scenario) => isSmall(scenario) && scenario.backingLength > 0,
      emphasis: { plan: { requests: 12, resizes: 0.5 } },
      file: 'control/resize.ts',
      find: '(resize.flags & ResizeFlag.ZeroNew) !== 0 ? end : ',
      replace: '',
    },
    'a map does not say where data are': {
      only: isSmall,
      emphasis: { plan: { requests: 40, questions: 0.3 } },
      file: 'control/map.ts',
      find: '  extent.kind = run.kind;',
      replace: '  extent.kind = ExtentKind.Unallocated;',
    },
    'a list leaves a snapshot out': {
      only: ({ snapshotRequests }) => snapshotRequests,
      emphasis: { plan: { requests: 40, questions: 0.3 } },
      file: 'control/snapshot-list.ts',
      find: '      task.request.result++;\n',
      replace: '      if (task.request.result === 0) task.request.result++;\n',
    },
    'who reads a snapshot gets the disk as it is': {
      only: (scenario) => isSmall(scenario) && scenario.snapshotRequests,
      emphasis: { scenario: { lives: 4 }, plan: { requests: 30, snapshots: 0.1 } },
      file: 'control/snapshot-select.ts',
      find: '  image.l1Offset = state.l1Offset;\n',
      replace: '',
    },
  };

  for (const [name, mistake] of Object.entries(mistakes)) test(name, () => expectCaught(mistake), CATCH_TIMEOUT);
});
