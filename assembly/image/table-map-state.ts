/** Where an image has tables: the state behind overlap.ts and survey.ts. */

import { WaitList } from '../base/wait-list';
import { Task } from './task';

@unmanaged
export class TableMap {
  /** A bit is set for every host cluster of a table, and by chance for others: a Bloom filter of two bits a cluster. */
  bits: usize = 0;
  /** log2 of its bits. */
  sizeBits: u32 = 0;
  /** Clusters, plus one, whose bits are set by chance; each at the place that its number gives. */
  cleared: usize = 0;
  /** Everything that was there at the last survey, and was made since, has its bits. */
  valid: bool = false;
  /** The core's own task that looks at the tables, and those that wait for it. */
  surveyor: Task = changetype<Task>(0);
  waiters: WaitList = changetype<WaitList>(0);
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

/** Entries of `cleared`: more than the clusters of one run. */
export const CLEARED_ENTRIES: u64 = 1024;
/** Bytes of `cleared`. */
export const CLEARED_LENGTH: u64 = 8192;

/** The tables are others now, or somebody has changed them without saying so. */
export function forgetTables(map: TableMap): void {
  map.valid = false;
}

/** A table was made in that host cluster. */
export function addTable(map: TableMap, cluster: u64): void {
  setBit(map, firstBit(map, cluster));
  setBit(map, secondBit(map, cluster));
  if (isCleared(map, cluster)) store<u64>(clearedAt(map, cluster), 0);
}

/** False when no table lies in that cluster for certain. */
export function mayHoldTable(map: TableMap, cluster: u64): bool {
  if (!hasBit(map, firstBit(map, cluster)) || !hasBit(map, secondBit(map, cluster))) return false;
  return !isCleared(map, cluster);
}

/** A survey has found no table in that cluster. */
export function clearCluster(map: TableMap, cluster: u64): void {
  store<u64>(clearedAt(map, cluster), cluster + 1);
}

/** Begins a map without tables. */
export function emptyMap(map: TableMap): void {
  memory.fill(map.bits, 0, usize(1) << (map.sizeBits - 3));
  memory.fill(map.cleared, 0, usize(CLEARED_LENGTH));
  map.found = 0;
}

function isCleared(map: TableMap, cluster: u64): bool {
  return load<u64>(clearedAt(map, cluster)) === cluster + 1;
}

function clearedAt(map: TableMap, cluster: u64): usize {
  return map.cleared + (usize(cluster & (CLEARED_ENTRIES - 1)) << 3);
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
