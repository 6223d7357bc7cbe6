/**
 * What a check knows between two steps. The record lies at the start of the memory for checking, the findings and the
 * arrays behind it:
 *
 *   references   per host cluster of the window: references found so far, saturating at what a refcount can hold
 *   stored       per host cluster of the window, two bits: whether its stored refcount is one (`Stored`)
 *   tables       per host cluster of the table window, a bit: it is an L2 table
 *   weights      per L2 table of the table window: how many L1 entries name it (table-weights.ts)
 *
 * A file with more clusters than the arrays have room for is walked again for each window. The two windows move
 * independently: every L2 table, wherever it lies, can refer to the window's clusters.
 */

import { CheckFinding, CheckResult } from '../abi/check-result';
import { PAGE_LENGTH } from '../abi/configuration';
import { alignUp } from '../base/align';
import { INCOMPATIBLE_DATA_FILE } from '../format/features';
import { Image } from '../image/image';
import { Task } from '../image/task';

/** Where the sequence stands: `Task.stage` of a check. */
export enum Phase {
  Begin = 0,
  LoadRefcounts = 1,
  WalkL1 = 2,
  WalkL2 = 3,
  WalkBitmaps = 4,
  WalkBlocks = 5,
  Compare = 6,
  EndPass = 7,
  Done = 8,
}

/** What the sequence is walked for: `CheckState.pass`. Each changes one thing and is durable before the next begins. */
export enum Pass {
  /** Finding out what is wrong; all that a check without repair does. */
  Judge = 0,
  /** L2 entries that can be put right without a look at anything else. */
  Entries = 1,
  /** New refcount structures, from what refers to what. */
  Rebuild = 2,
  /** Refcounts become the numbers of references. */
  Refcounts = 3,
  /** COPIED flags become what the refcounts say. */
  Flags = 4,
  /** Finding out what is wrong now. */
  Verify = 5,
}

/** No such cluster. */
export const NONE: u64 = 0xffffffffffffffff;

@unmanaged
export class CheckState {
  owner: Task | null = null;
  result: CheckResult = changetype<CheckResult>(0);
  findings: usize = 0;
  findingCapacity: u32 = 0;

  clusterBits: u32 = 0;
  clusterSize: u64 = 0;
  /** Guest data is in another file: L2 entries refer to no cluster of this one. */
  hasDataFile: bool = false;
  /** Bytes of the file in whole sectors, as QEMU counts. */
  fileLength: u64 = 0;
  /** Clusters of the file, and one more when something reaches less than a cluster beyond its end. */
  clusterCount: u64 = 0;
  /** No window reaches further than this cluster. */
  clusterLimit: u64 = 0;
  highestCluster: u64 = 0;
  /** Last cluster that anything refers to, or that is counted, in any pass; unlike QEMU's number above never too low. */
  highestUsed: u64 = 0;

  references: usize = 0;
  /** log2 of the bytes of one reference count. */
  referenceBits: u32 = 0;
  referenceMaximum: u64 = 0;
  stored: usize = 0;
  tables: usize = 0;
  weights: usize = 0;
  /** Tables that there is room for, and those that are there. */
  weightSlots: u32 = 0;
  tableCount: u32 = 0;
  /** Clusters that the arrays have room for, a multiple of 64. */
  capacity: u64 = 0;
  /** Clusters whose references are being counted. The first window begins at 0: entries are judged then. */
  windowStart: u64 = 0;
  windowEnd: u64 = 0;
  /** First cluster behind the window that something refers to, or that has a refcount block. */
  nextWindow: u64 = 0;
  /** Clusters whose L2 tables are being walked. The first table window begins at 0: L1 entries are counted then. */
  tableStart: u64 = 0;
  tableEnd: u64 = 0;
  /** First cluster behind the table window that is an L2 table. */
  nextTable: u64 = 0;

  /** Refcounts: next cluster to load or compare. Refcount table: offset of the next entry. L2: table looked at. */
  cursor: u64 = 0;
  /** Bytes of the L1 table being walked: next, end. Active or a snapshot's. */
  l1Cursor: u64 = 0;
  l1End: u64 = 0;
  active: bool = false;
  /** Snapshots taken from their table, and where the next entry lies. */
  snapshotIndex: u32 = 0;
  snapshotOffset: u64 = 0;
  /** Entries of that table have too much or too little extra data, and bytes of the table when that is put right. */
  snapshotsDamaged: bool = false;
  /** A copy in which it is right has taken the table's place. */
  snapshotsFixed: bool = false;
  newSnapshotsLength: u64 = 0;
  /** Bytes of the L1 tables of the snapshots so far. */
  snapshotL1Length: u64 = 0;
  /** Bitmaps taken from their directory, and where the next entry lies. */
  bitmapIndex: u32 = 0;
  bitmapOffset: u64 = 0;
  /** Bytes of the bitmap table being walked: next, end. */
  tableCursor: u64 = 0;
  tableLimit: u64 = 0;
  /** Bytes of the bitmap tables so far. */
  bitmapTablesLength: u64 = 0;
  /** How many L1 entries, and how many active ones, name the L2 table that is being walked. */
  weight: u32 = 0;
  activeWeight: u32 = 0;
  /** Bytes of the current L2 table that are done. */
  l2Done: u32 = 0;
  /** Where the current L2 table's next cluster would be, were it not fragmented; 0 at its start. */
  nextContiguous: u64 = 0;
  /** Turns that the check has had. */
  turns: u32 = 0;

  pass: Pass = Pass.Judge;
  /** The pass begins once more. */
  repeats: bool = false;
  /** What the pass has changed is on its way to being durable. */
  settling: bool = false;
  /** Counts of the first pass; corruptions without wrong COPIED flags. */
  foundCorruptions: u64 = 0;
  foundLeaks: u64 = 0;
  /** COPIED flags put right. */
  copiedFixed: u64 = 0;
  /** Wrong COPIED flags among the corruptions of the running pass. */
  copiedWrong: u64 = 0;
  /** Something was not followed that may name clusters: what seems to be leaked may belong to it. */
  incomplete: bool = false;
  /** A cluster in use has a refcount of zero. */
  uncounted: bool = false;
  /** The refcount table or a block of it cannot be kept, or lacks. */
  mustRebuild: bool = false;
  /** The corruptions that were found are wrong COPIED flags, if there are any. */
  onlyFlags: bool = false;
  /** The repair makes the refcount structures anew. */
  rebuilding: bool = false;
  /** There are L2 entries for Pass.Entries. */
  fixableEntries: bool = false;

  /** Rebuild: first cluster of the new structures, and the end of them, 0 as long as it is not known. */
  newStart: u64 = 0;
  newEnd: u64 = 0;
  newTableClusters: u64 = 0;
  newBlocks: u64 = 0;
  /** Rebuild: index of the block that is being written, NONE for none. */
  blockIndex: u64 = 0;
  /** Rebuild: offset within the new table of the slice of it that is being filled, NONE for none. */
  tableSlice: u64 = 0;
  /** Rebuild: clusters before this one have their refcounts in the new blocks. */
  rebuilt: u64 = 0;
  rebuildStage: u32 = 0;
}

const SECTOR: u64 = 512;
export const WEIGHT_SLOT_SIZE: u32 = 8;
/** Where there is room: for small files with many tables. */
const LEAST_WEIGHT_SLOTS: u32 = 2048;
const FINDING_SIZE: u32 = u32(offsetof<CheckFinding>());
const RESULT_SIZE: u32 = u32(offsetof<CheckResult>());
/** Findings that fit the page behind the result. */
const MAXIMUM_FINDINGS: u32 = (PAGE_LENGTH - RESULT_SIZE) / FINDING_SIZE;
const HEAD_LENGTH: u32 = (u32(offsetof<CheckState>()) + RESULT_SIZE + 15) & ~15;
/** The least memory that is worth starting with. */
export const MINIMUM_CHECK_LENGTH: u32 = HEAD_LENGTH + 1024;

/** The state of the image's check; only with at least MINIMUM_CHECK_LENGTH bytes. */
export function checkState(image: Image): CheckState {
  return changetype<CheckState>(image.checkMemory);
}

/** Clears the record and divides the memory. */
export function openState(image: Image, task: Task): CheckState {
  const state = checkState(image);
  memory.fill(image.checkMemory, 0, HEAD_LENGTH);
  state.owner = task;
  state.result = changetype<CheckResult>(image.checkMemory + offsetof<CheckState>());
  state.clusterBits = image.geometry.clusterBits;
  state.clusterSize = image.geometry.clusterSize;
  state.hasDataFile = (image.info.incompatibleFeatures & INCOMPATIBLE_DATA_FILE) !== 0;
  // Counts as wide as the image's refcounts; nothing that fits the file refers to a cluster 2^32 times.
  const order = image.geometry.refcountOrder;
  state.referenceBits = order <= 3 ? 0 : order === 4 ? 1 : 2;
  state.referenceMaximum = order >= 5 ? 0xffffffff : (u64(1) << (u64(1) << order)) - 1;

  state.findings = image.checkMemory + HEAD_LENGTH;
  state.findingCapacity = min(MAXIMUM_FINDINGS, (image.checkLength - HEAD_LENGTH) / 4 / FINDING_SIZE);
  openPass(image, state, Pass.Judge);
  return state;
}

/** Begins a pass: nothing counted yet, and the arrays for the file as long as it is now. */
export function openPass(image: Image, state: CheckState, pass: Pass): void {
  state.pass = pass;
  const result = state.result;
  result.corruptions = 0;
  result.leaks = 0;
  result.checkErrors = 0;
  result.allocatedClusters = 0;
  result.fragmentedClusters = 0;
  result.compressedClusters = 0;
  state.highestCluster = 0;
  state.copiedWrong = 0;
  state.fileLength = alignUp(image.fileLength, SECTOR);
  state.clusterCount = (state.fileLength + state.clusterSize - 1) >> state.clusterBits;
  state.clusterLimit = state.clusterCount + 1;

  const available = image.checkLength - HEAD_LENGTH;
  const findingsLength = (state.findingCapacity * FINDING_SIZE + 15) & ~15;
  // For 64 clusters: as many counts, 2 bits of stored state and a bit of tables each, and two slots for weights.
  const unit: u32 = (64 << state.referenceBits) + 16 + 8 + 2 * WEIGHT_SLOT_SIZE;
  const units: u64 = (available - findingsLength) / unit;
  state.capacity = min(units, (state.clusterLimit + 63) >> 6) << 6;
  const capacity = usize(state.capacity);
  state.tables = state.findings + findingsLength;
  state.references = state.tables + (capacity >> 3);
  state.stored = state.references + (capacity << state.referenceBits);
  state.weights = state.stored + (capacity >> 2);
  const left = u32(image.checkMemory + image.checkLength - state.weights) / WEIGHT_SLOT_SIZE;
  state.weightSlots = min(left, max(u32(state.capacity >> 5), LEAST_WEIGHT_SLOTS));
}

/** Whether wrong things are counted, not changed. */
export function isJudging(state: CheckState): bool {
  return state.pass === Pass.Judge || state.pass === Pass.Verify;
}

/** Whether what belongs to no cluster is judged now: once in a check. */
export function isFirstWindow(state: CheckState): bool {
  return state.windowStart === 0;
}

/** Whether L1 entries are counted now: once for each window. */
export function isFirstTableWindow(state: CheckState): bool {
  return state.tableStart === 0;
}
