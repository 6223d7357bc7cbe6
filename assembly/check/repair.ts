/**
 * Repair: passes over everything, each of which changes one thing and is durable before the next one begins. A power
 * cut in between leaves an image that is no worse than before, and the next repair goes on.
 *
 *   judge ─▶ entries ─▶ rebuild, or refcounts ─▶ (snapshot table) ─▶ flags ─▶ verify ─▶ dirty and corrupt bits
 *
 * What could lose guest data is not done: a refcount sinks only when everything that may name the cluster was counted.
 */

import { CheckOutcome } from '../abi/check-result';
import { RequestFlag } from '../abi/request';
import { Status } from '../abi/status';
import { storeU32 } from '../base/bytes';
import { requestFlush } from '../cache/write-order';
import { INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY } from '../format/features';
import { HeaderOffset } from '../format/header';
import { changeFeatures } from '../image/header-bits';
import { commitHeaderSector, needHeaderSector } from '../image/header-sector';
import { Image } from '../image/image';
import { Task } from '../image/task';
import { finishRebuild, planRebuild, startRebuild } from './rebuild';
import { fixSnapshotTable, forgetTableCopy } from './snapshot-table';
import { CheckState, isJudging, openPass, Pass, Phase } from './state';

const REPAIRS: u32 = RequestFlag.RepairLeaks | RequestFlag.RepairAll;

export function isRepair(task: Task): bool {
  return (task.flags & REPAIRS) !== 0;
}

/**
 * The windows of a pass are done. Ok with the phase Done when that was the last pass; Ok with the phase EndPass and
 * `state.pass` changed when the caller has to begin that one.
 */
export function endPass(image: Image, task: Task, state: CheckState): Status {
  if (!isRepair(task)) {
    task.stage = Phase.Done;
    return Status.Ok;
  }
  let status = dropSnapshots(image, task);
  if (status !== Status.Ok) return status;
  if (state.pass === Pass.Rebuild) {
    status = finishRebuild(image, task, state);
    if (status !== Status.Ok) return status;
    state.result.outcome |= CheckOutcome.Rebuilt;
  }
  if (!isJudging(state) && !state.settling) {
    state.settling = true;
    requestFlush(image.order, task);
    return Status.Miss;
  }
  const hasRefcounts = state.pass === Pass.Refcounts || state.pass === Pass.Rebuild;
  if (hasRefcounts && (task.flags & RequestFlag.RepairAll) !== 0 && canFixSnapshots(state)) {
    status = fixSnapshotTable(image, task, state);
    if (status !== Status.Ok) return status;
    state.snapshotsFixed = true;
    if (state.pass === Pass.Refcounts) {
      // The file is longer now: what was counted behind its end is a leak inside it.
      state.settling = false;
      state.repeats = true;
      openPass(image, state, Pass.Refcounts);
      return Status.Ok;
    }
  }
  state.settling = false;
  if (state.pass === Pass.Verify || !needsRepair(task, state)) return conclude(image, task, state);
  if (state.pass === Pass.Judge) {
    status = state.mustRebuild ? planRebuild(image, state) : Status.Ok;
    if (status !== Status.Ok) return status;
    beginRepair(image, state);
  }
  const next = nextPass(task, state);
  openPass(image, state, next);
  if (next === Pass.Rebuild) startRebuild(image, state);
  return Status.Ok;
}

/** The header names no overhanging snapshots any more, durably: only then may what was theirs become free. */
function dropSnapshots(image: Image, task: Task): Status {
  if (image.overhangingSnapshots === 0) return Status.Ok;
  let status = needHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  storeU32(image.headerSector + HeaderOffset.SnapshotCount, image.info.snapshotCount);
  status = commitHeaderSector(image, task);
  if (status !== Status.Ok) return status;
  image.overhangingSnapshots = 0;
  return Status.Ok;
}

/** A table that reaches beyond the end of the file says nothing that could be copied. Once is enough: then it is right. */
function canFixSnapshots(state: CheckState): bool {
  return state.snapshotsDamaged && !state.snapshotsFixed && state.snapshotOffset <= state.fileLength;
}

/** Whether something is wrong, and a repair of that kind may do something about it. */
function needsRepair(task: Task, state: CheckState): bool {
  if (state.pass !== Pass.Judge) return true;
  if (state.result.corruptions + state.result.leaks + state.result.checkErrors === 0) return false;
  const all = (task.flags & RequestFlag.RepairAll) !== 0;
  if (all || !(state.mustRebuild || state.uncounted)) return true;
  // As QEMU: where refcounts are missing, what seems to be leaked is no good guide.
  state.result.outcome |= CheckOutcome.NeedsRebuild;
  return false;
}

/** From here on the findings are what was repaired, and then what is left. */
function beginRepair(image: Image, state: CheckState): void {
  forgetTableCopy(image);
  const result = state.result;
  state.foundCorruptions = result.corruptions - state.copiedWrong;
  state.foundLeaks = result.leaks;
  state.onlyFlags = result.corruptions === state.copiedWrong && result.checkErrors === 0;
  state.rebuilding = state.mustRebuild;
  if (state.incomplete && result.leaks !== 0) result.outcome |= CheckOutcome.LeaksKept;
  result.findingCount = 0;
}

function nextPass(task: Task, state: CheckState): Pass {
  let pass = u32(state.pass) + 1;
  while (pass < u32(Pass.Verify) && !isWanted(task, state, pass)) pass++;
  return pass;
}

function isWanted(task: Task, state: CheckState, pass: u32): bool {
  const all = (task.flags & RequestFlag.RepairAll) !== 0;
  switch (pass) {
    case Pass.Entries:
      return all && state.fixableEntries;
    case Pass.Rebuild:
      return state.rebuilding;
    case Pass.Refcounts:
      return !state.rebuilding;
    default:
      // A refcount that has sunk to one asks for the flag; after other corruptions nobody knows.
      return all || state.onlyFlags;
  }
}

/** Nothing more can be done. What the bits in the header warn of is over when no corruption is left. */
function conclude(image: Image, task: Task, state: CheckState): Status {
  const result = state.result;
  if (state.pass === Pass.Verify) {
    // As QEMU counts: of the flags, those that were wrong after the refcounts had been put right.
    const left = result.corruptions - state.copiedWrong;
    result.corruptionsFixed = state.foundCorruptions - min(state.foundCorruptions, left) + state.copiedFixed;
    result.leaksFixed = state.foundLeaks - min(state.foundLeaks, result.leaks);
  }
  if (result.corruptions + result.checkErrors === 0) {
    const status = changeFeatures(image, task, 0, INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT);
    if (status !== Status.Ok) return status;
  }
  task.stage = Phase.Done;
  return Status.Ok;
}
