/**
 * How many L1 entries name each L2 table of the table window. Few clusters are L2 tables: a bit for each cluster says whether
 * it is one, and the weights of those that are lie in a hash table with open addressing:
 *
 *   0                                 4
 *   cluster of the window, plus one   weight: references from all L1 tables << 8 | from the active one
 *
 * When there are more tables than that has room for, the window becomes shorter: what lies behind its new end is forgotten,
 * and gets a table window of its own.
 */

import { CheckState, NONE, WEIGHT_SLOT_SIZE } from './state';

const WEIGHT: usize = 4;
/** References from the active L1 table in the low bits, references from all L1 tables above them. */
const ACTIVE_MAXIMUM: u32 = 0xff;
const WEIGHT_SHIFT: u32 = 8;
/** More references than any honest image can have; from here on they are not counted. */
const WEIGHT_MAXIMUM: u32 = 0xffffff;
/** Spreads neighbours, which L2 tables often are. */
const MULTIPLIER: u32 = 0x9e3779b1;

/** Begins a window of L2 tables at cluster `start`. */
export function openTableWindow(state: CheckState, start: u64): void {
  state.tableStart = start;
  state.tableEnd = min(start + state.capacity, state.clusterLimit);
  state.nextTable = NONE;
  state.tableCount = 0;
  memory.fill(state.tables, 0, usize(state.capacity >> 3));
  memory.fill(state.weights, 0, usize(state.weightSlots) * WEIGHT_SLOT_SIZE);
}

/** One more L1 entry names `cluster` as its L2 table. */
export function addTable(state: CheckState, cluster: u64, active: bool): void {
  if (cluster < state.tableStart) return;
  while (cluster < state.tableEnd) {
    const slot = findSlot(state, cluster);
    if (load<u32>(slot) !== 0 || state.tableCount < state.weightSlots - (state.weightSlots >> 2) - 1) {
      count(state, slot, cluster, active);
      return;
    }
    shorten(state);
  }
  if (cluster < state.nextTable) state.nextTable = cluster;
}

/** The first L2 table of the table window at or behind `cluster` and before `end`; `end` when there is none. */
export function findTable(state: CheckState, cluster: u64, end: u64): u64 {
  while (cluster < end) {
    const index = cluster - state.tableStart;
    const rest = load<u64>(state.tables + usize((index >> 6) << 3)) >> (index & 63);
    if (rest !== 0) return min(end, cluster + ctz(rest));
    cluster += 64 - (index & 63);
  }
  return end;
}

/** How many L1 entries name the table. */
export function tableWeight(state: CheckState, cluster: u64): u32 {
  return load<u32>(findSlot(state, cluster), WEIGHT) >> WEIGHT_SHIFT;
}

/** How many entries of the active L1 table name the table. */
export function activeWeight(state: CheckState, cluster: u64): u32 {
  return load<u32>(findSlot(state, cluster), WEIGHT) & ACTIVE_MAXIMUM;
}

function count(state: CheckState, slot: usize, cluster: u64, active: bool): void {
  if (load<u32>(slot) === 0) {
    store<u32>(slot, u32(cluster - state.tableStart) + 1);
    state.tableCount++;
    const index = cluster - state.tableStart;
    const word = state.tables + usize((index >> 6) << 3);
    store<u64>(word, load<u64>(word) | (u64(1) << (index & 63)));
  }
  const weight = load<u32>(slot, WEIGHT);
  const all = min((weight >> WEIGHT_SHIFT) + 1, WEIGHT_MAXIMUM);
  if (all === WEIGHT_MAXIMUM) state.incomplete = true;
  const inUse = min((weight & ACTIVE_MAXIMUM) + u32(active), ACTIVE_MAXIMUM);
  store<u32>(slot, (all << WEIGHT_SHIFT) | inUse, WEIGHT);
}

/** Half as long a window: what lies behind that is forgotten. */
function shorten(state: CheckState): void {
  state.tableEnd = state.tableStart + max<u64>(1, (state.tableEnd - state.tableStart) >> 1);
  const limit = u32(state.tableEnd - state.tableStart);
  for (let index: u32 = 0; index < state.weightSlots; index++) {
    // What fills the place of an entry that goes is looked at, too.
    while (true) {
      const key = load<u32>(slotAt(state, index));
      if (key === 0 || key <= limit) break;
      state.nextTable = min(state.nextTable, state.tableStart + u64(key - 1));
      const word = state.tables + usize(((key - 1) >> 6) << 3);
      store<u64>(word, load<u64>(word) & ~(u64(1) << u64((key - 1) & 63)));
      removeAt(state, index);
      state.tableCount--;
    }
  }
}

/** Those that a full slot had kept from their own place move up. */
function removeAt(state: CheckState, index: u32): void {
  let hole = index;
  let next = index;
  while (true) {
    if (++next === state.weightSlots) next = 0;
    const key = load<u32>(slotAt(state, next));
    if (key === 0) break;
    const home = homeOf(state, key);
    const staysBehind = hole <= next ? home > hole && home <= next : home > hole || home <= next;
    if (staysBehind) continue;
    memory.copy(slotAt(state, hole), slotAt(state, next), WEIGHT_SLOT_SIZE);
    hole = next;
  }
  store<u64>(slotAt(state, hole), 0);
}

/** The slot of the table, or the free one where it would be put: there is always one. */
function findSlot(state: CheckState, cluster: u64): usize {
  const key = u32(cluster - state.tableStart) + 1;
  let index = homeOf(state, key);
  while (true) {
    const slot = slotAt(state, index);
    const found = load<u32>(slot);
    if (found === key || found === 0) return slot;
    if (++index === state.weightSlots) index = 0;
  }
}

function homeOf(state: CheckState, key: u32): u32 {
  return u32((u64(key * MULTIPLIER) * u64(state.weightSlots)) >> 32);
}

function slotAt(state: CheckState, index: u32): usize {
  return state.weights + usize(index) * WEIGHT_SLOT_SIZE;
}
