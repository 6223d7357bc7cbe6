/** Where an image has tables: the state behind overlap.ts and survey.ts. */

import { WaitList } from '../base/wait-list';
import { Task } from './task';

@unmanaged
export class TableMap {
  /** A bit is set for every host cluster of a table, and by chance for others: a Bloom filter of two bits a cluster. */
  bits: usize = 0;
  /** log2 of its bits. */
  sizeBits: u32 = 0;
  /** A bit for each of the WINDOW_CLUSTERS clusters from `windowStart` on, set for those of tables and no others. */
  window: usize = 0;
  windowStart: u64 = 0;
  /** The window is filled: a survey has visited every table for it. */
  windowValid: bool = false;
  /** Everything that was there at the last survey, and was made since, has its bits. */
  valid: bool = false;
  /** The core's own task that looks at the tables, and those that wait for it. */
  surveyor: Task = changetype<Task>(0);
  waiters: WaitList = changetype<WaitList>(0);
  /** Who asked for the walk that looks for tables, until it has seen the answer. */
  seeker: Task | null = null;
  /** It has been run since it asked. */
  seen: bool = false;
  /** The survey looks for tables in the clusters `first` to `last`; else it fills the map. */
  seeks: bool = false;
  first: u64 = 0;
  last: u64 = 0;
  /** Structure that was found at `foundCluster`; 0 when none was. */
  found: u32 = 0;
  foundCluster: u64 = 0;
  /** Where the survey stands: see survey.ts. */
  stage: u32 = 0;
  cursor: u64 = 0;
  snapshotIndex: u32 = 0;
  snapshotOffset: u64 = 0;
  /** Clusters of the L1 tables of snapshots so far. */
  inactiveClusters: u64 = 0;
}

/** More than twice the clusters of any run: a window that begins near a run holds the whole of it. */
export const WINDOW_CLUSTERS: u64 = 65536;
/** Bytes of `window`. */
export const WINDOW_LENGTH: u64 = WINDOW_CLUSTERS / 8;

/** The tables are others now, or somebody has changed them without saying so. */
export function forgetTables(map: TableMap): void {
  map.valid = false;
}

/** A table was made in that host cluster. */
export function addTable(map: TableMap, cluster: u64): void {
  setBit(map, firstBit(map, cluster));
  setBit(map, secondBit(map, cluster));
  addToWindow(map, cluster);
}

/** The same for the window alone. */
export function addToWindow(map: TableMap, cluster: u64): void {
  const index = cluster - map.windowStart;
  if (index >= WINDOW_CLUSTERS) return;
  const address = map.window + usize(index >> 3);
  store<u8>(address, load<u8>(address) | (u8(1) << u8(index & 7)));
}

/** False when no table lies in that cluster for certain. */
export function mayHoldTable(map: TableMap, cluster: u64): bool {
  if (!hasBit(map, firstBit(map, cluster)) || !hasBit(map, secondBit(map, cluster))) return false;
  const index = cluster - map.windowStart;
  if (!map.windowValid || index >= WINDOW_CLUSTERS) return true;
  return (load<u8>(map.window + usize(index >> 3)) & (u8(1) << u8(index & 7))) !== 0;
}

/** Begins a window that holds `cluster` and as many behind it as a run may have. */
export function moveWindow(map: TableMap, cluster: u64): void {
  map.windowValid = false;
  map.windowStart = cluster & ~(WINDOW_CLUSTERS / 2 - 1);
  memory.fill(map.window, 0, usize(WINDOW_LENGTH));
}

/** Begins a map without tables. */
export function emptyMap(map: TableMap): void {
  memory.fill(map.bits, 0, usize(1) << (map.sizeBits - 3));
  map.windowValid = false;
  map.found = 0;
}

function hash(cluster: u64): u64 {
  return cluster * 0x9e3779b97f4a7c15;
}

function firstBit(map: TableMap, cluster: u64): u32 {
  return u32(hash(cluster) >> (64 - map.sizeBits));
}

function secondBit(map: TableMap, cluster: u64): u32 {
  return u32(hash(cluster) >> (64 - 2 * map.sizeBits)) & ((u32(1) << map.sizeBits) - 1);
}

function hasBit(map: TableMap, bit: u32): bool {
  return (load<u8>(map.bits + (bit >> 3)) & (1 << (bit & 7))) !== 0;
}

function setBit(map: TableMap, bit: u32): void {
  const address = map.bits + (bit >> 3);
  store<u8>(address, load<u8>(address) | (u8(1) << u8(bit & 7)));
}
