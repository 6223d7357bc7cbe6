/**
 * Check: count what refers to each cluster of the file, compare with the stored refcounts and the COPIED flags, as
 * `qemu-img check` does. Nothing is changed, unless a repair is asked for: then this is one of its passes. For each
 * window of clusters that fits the memory:
 *
 *   load refcounts ─▶ walk L1 ─▶ walk L2 ─▶ walk bitmaps ─▶ walk refcount table ─▶ compare ─▶ next window, or the
 *                        ▲           │ next table window                                        end of the pass
 *                        └───────────┘
 *
 * Every step is a bounded piece that changes nothing before its last table slice is there, so each entry counts once.
 */

import { PAGE_LENGTH } from '../abi/configuration';
import { Field, Structure } from '../abi/failure';
import { RequestFlag, RequestKind } from '../abi/request';
import { Status } from '../abi/status';
import { unitsFor } from '../base/align';
import { refuse } from '../base/refuse';
import { push } from '../base/wait-list';
import { Owner, readModule } from '../block';
import { sliceRefcountBits } from '../format/geometry';
import { HeaderOffset } from '../format/header';
import { Image } from '../image/image';
import { settle } from '../image/settle';
import { parkOnOperation, Task } from '../image/task';
import { compareStored, loadStored } from './compare';
import { rebuildSlice } from './rebuild';
import { countReferences, openWindow } from './references';
import { endPass, isRepair } from './repair';
import { reportCorruption, writeReport } from './report';
import { setRefcounts } from './set-refcounts';
import { CheckState, checkState, isFirstWindow, MINIMUM_CHECK_LENGTH, NONE, openState, Pass, Phase } from './state';
import { openTableWindow } from './table-weights';
import { isBitmapWalkDone, startBitmapWalk, stepBitmapWalk } from './walk-bitmaps';
import { isBlockWalkDone, startBlockWalk, stepBlockWalk } from './walk-blocks';
import { isL1WalkDone, startL1Walk, stepL1Walk } from './walk-l1';
import { isL2WalkDone, startL2Walk, stepL2Walk } from './walk-l2';

/** Pieces, of a table slice each at most, before other requests have their turn. */
const PIECES_PER_TURN: u32 = 16;
/** Passes of a repair. */
const PASSES: u64 = 6;
/** Turns before the host has its turn too. */
const TURNS_PER_BREATH: u32 = 16;
const BREATH_LENGTH: u32 = 512;
/** QEMU's limit too: a longer file would be walked for ever. */
const MAXIMUM_CLUSTERS: u64 = 0x7fffffff;

/** Goes on with the check; Ok when the page holds the result. */
export function stepCheck(image: Image, task: Task): Status {
  if (task.stage === Phase.Begin) {
    // A cluster on its way to being free would look like a leak.
    let status = settle(image, task);
    if (status !== Status.Ok) return status;
    status = begin(image, task);
    if (status !== Status.Ok) return status;
  }
  const state = checkState(image);
  for (let pieces: u32 = 0; pieces < PIECES_PER_TURN; pieces++) {
    const status = stepPhase(image, task, state);
    if (status !== Status.Ok) return status;
    if (task.stage === Phase.Done) return finish(image, task, state);
  }
  updateProgress(task, state);
  return pause(image, task, state);
}

/** Lets other requests have their turn; now and then also the host, which could not cancel the check otherwise. */
function pause(image: Image, task: Task, state: CheckState): Status {
  if (++state.turns % TURNS_PER_BREATH === 0) {
    // Any operation would do: the host goes on when it answers. The page belongs to this request until it ends.
    const page = image.page + PAGE_LENGTH - BREATH_LENGTH;
    readModule(image.operations, Owner.Task, changetype<usize>(task), 0, page, BREATH_LENGTH);
    return parkOnOperation(task);
  }
  task.outcome = Status.Miss;
  push(image.ready, task);
  return Status.Miss;
}

function begin(image: Image, task: Task): Status {
  const failure = image.failure;
  // What is read is not what the header names as the active tables.
  if (image.snapshotSelected) return refuse(failure, Status.Invalid, Structure.Request, Field.Kind, 0, task.kind, 0);
  if (isRepair(task) && !(image.writable && image.tablesOnly)) {
    return refuse(failure, Status.Invalid, Structure.Request, Field.Kind, 0, task.flags, 0);
  }
  if (image.checkLength < MINIMUM_CHECK_LENGTH) {
    return refuse(failure, Status.TooLarge, Structure.Request, Field.Cache, 0, image.checkLength, MINIMUM_CHECK_LENGTH);
  }
  const clusters = unitsFor(image.fileLength, image.geometry.clusterBits);
  if (clusters > MAXIMUM_CLUSTERS) {
    return refuse(failure, Status.TooLarge, Structure.File, Field.Length, 0, clusters, MAXIMUM_CLUSTERS);
  }
  // There is one memory for checking. A cancelled owner is not active any more, or its slot has begun anew.
  const owner = checkState(image).owner;
  if (owner !== null && owner.active && owner.kind === RequestKind.Check && owner.stage !== Phase.Begin) {
    return refuse(failure, Status.Invalid, Structure.Request, Field.Kind, 0, task.kind, 0);
  }
  const excess = image.overhangingSnapshots;
  const found = image.info.snapshotCount + excess;
  const field = Field.SnapshotCount;
  if (excess !== 0 && (task.flags & RequestFlag.RepairAll) === 0) {
    return refuse(failure, Status.Corrupt, Structure.Header, field, HeaderOffset.SnapshotCount, found, found - excess);
  }
  const state = openState(image, task);
  if (excess !== 0) {
    reportCorruption(state, excess, Structure.Header, field, HeaderOffset.SnapshotCount, found, found - excess);
  }
  state.result.totalClusters = unitsFor(image.virtualSize, image.geometry.clusterBits);
  task.request.progress = 0;
  task.request.progressTotal = state.fileLength * (isRepair(task) ? PASSES : 1);
  startWindow(task, state, 0);
  return Status.Ok;
}

/** One bounded piece of the phase that `task.stage` names, or the step to the next phase. */
function stepPhase(image: Image, task: Task, state: CheckState): Status {
  switch (task.stage) {
    case Phase.LoadRefcounts:
      if (state.cursor < state.windowEnd) return loadStored(image, task, state);
      startTables(image, task, state, 0);
      break;
    case Phase.WalkL1:
      if (!isL1WalkDone(image, state)) return stepL1Walk(image, task, state);
      startL2Walk(state);
      task.stage = Phase.WalkL2;
      break;
    case Phase.WalkL2:
      if (!isL2WalkDone(state)) return stepL2Walk(image, task, state);
      if (state.nextTable !== NONE) {
        startTables(image, task, state, state.nextTable);
      } else {
        countRegions(image, state);
        startBitmapWalk(image, state);
        task.stage = Phase.WalkBitmaps;
      }
      break;
    case Phase.WalkBitmaps:
      if (!isBitmapWalkDone(image, state)) return stepBitmapWalk(image, task, state);
      task.stage = Phase.WalkBlocks;
      if (state.pass !== Pass.Rebuild) startBlockWalk(image, state);
      else startCompare(task, state);
      break;
    case Phase.WalkBlocks:
      if (!isBlockWalkDone(image, state)) return stepBlockWalk(image, task, state);
      startCompare(task, state);
      break;
    case Phase.Compare:
      if (state.cursor < min(state.windowEnd, state.clusterCount)) return stepCompare(image, task, state);
      if (nextWindow(image, state) < state.clusterCount) startWindow(task, state, nextWindow(image, state));
      else task.stage = Phase.EndPass;
      break;
    default: {
      const pass = state.pass;
      const status = endPass(image, task, state);
      if (status !== Status.Ok) return status;
      if (state.pass !== pass || state.repeats) startWindow(task, state, 0);
      state.repeats = false;
      break;
    }
  }
  return Status.Ok;
}

function stepCompare(image: Image, task: Task, state: CheckState): Status {
  if (state.pass === Pass.Rebuild) return rebuildSlice(image, task, state);
  return state.pass === Pass.Refcounts ? setRefcounts(image, task, state) : compareStored(image, task, state);
}

function startCompare(task: Task, state: CheckState): void {
  state.cursor = state.windowStart;
  task.stage = Phase.Compare;
}

/** New blocks are written in whole slices. Where old refcounts are kept, no window can be passed over. */
function nextWindow(image: Image, state: CheckState): u64 {
  if (state.pass !== Pass.Rebuild) return state.nextWindow;
  if (state.incomplete) return state.windowEnd;
  return state.nextWindow & ~((u64(1) << sliceRefcountBits(image.geometry)) - 1);
}

function startWindow(task: Task, state: CheckState, start: u64): void {
  openWindow(state, start);
  state.cursor = start;
  task.stage = Phase.LoadRefcounts;
}

function startTables(image: Image, task: Task, state: CheckState, start: u64): void {
  openTableWindow(state, start);
  startL1Walk(image, state);
  task.stage = Phase.WalkL1;
}

/** What the header says is there. The L1 tables were counted when they were walked. */
function countRegions(image: Image, state: CheckState): void {
  countReferences(state, 0, state.clusterSize, 1);
  // New refcount structures count themselves; the old ones are not used any more.
  if (state.pass !== Pass.Rebuild) {
    const tableLength = u64(image.refcountTableClusters) << state.clusterBits;
    countRegion(state, Structure.RefcountTable, image.refcountTableOffset, tableLength);
  }
  const info = image.info;
  if (!countRegion(state, Structure.HeaderExtension, info.encryptionHeaderOffset, info.encryptionHeaderLength)) {
    // A part of it may be in the file, and without it the disk is lost: nothing that seems to be leaked may be freed.
    state.incomplete = true;
  }
  const snapshots = info.snapshotsOffset;
  countRegion(state, Structure.SnapshotTable, snapshots, state.snapshotOffset - snapshots);
}

function countRegion(state: CheckState, structure: Structure, offset: u64, length: u64): bool {
  if (countReferences(state, offset, length, 1)) return true;
  if (isFirstWindow(state)) reportCorruption(state, 1, structure, Field.Offset, offset, length, state.fileLength);
  return false;
}

/** How far the walk through the tables of this window is, as a part of the window. */
function updateProgress(task: Task, state: CheckState): void {
  const total = state.clusterLimit;
  let walked: u64 = 0;
  if (task.stage === Phase.WalkL2) walked = state.cursor;
  else if (task.stage === Phase.WalkL1) walked = state.tableStart;
  else if (task.stage > u32(Phase.WalkL2)) walked = total;
  const clusters = state.windowStart + ((state.windowEnd - state.windowStart) * walked) / total;
  const passes = u64(state.pass) * state.fileLength;
  task.request.progress = min(task.request.progressTotal, passes + (clusters << state.clusterBits));
}

function finish(image: Image, task: Task, state: CheckState): Status {
  state.result.imageEndOffset = (state.highestCluster + 1) << state.clusterBits;
  writeReport(state, image.page);
  task.request.progress = task.request.progressTotal;
  task.request.result = state.result.findingCount;
  state.owner = null;
  return Status.Ok;
}
