/** Tables of a mutant that are two things at once, read from its bytes without the engine. */

const ENTRY = 8;
const OFFSET_MASK = 0x00fffffffffffe00n;
/** Enough to find what a few changes have made of a small image. */
const MOST_SNAPSHOTS = 64;
const MOST_ENTRIES = 4096;
const SNAPSHOT_HEADER = 40;

interface L1Table {
  readonly offset: number;
  readonly entries: number;
}

/**
 * Whether a cluster of an L1 table is an L2 table, too. Where the refcount counts both, every tool calls that right; but what is
 * written to the one is in the other, and QEMU does that as well.
 */
export function isL1TableAnL2Table(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const clusterSize = 2 ** Math.min(21, Math.max(9, view.getUint32(20)));
  const tables = l1Tables(view);
  const ofL1 = new Set<number>();
  for (const { offset, entries } of tables) {
    for (let at = offset; at < offset + entries * ENTRY; at += clusterSize) ofL1.add(Math.floor(at / clusterSize));
  }
  return tables.some(({ offset, entries }) => {
    for (let index = 0; index < entries; index++) {
      const named = Number(view.getBigUint64(offset + index * ENTRY) & OFFSET_MASK);
      if (named !== 0 && ofL1.has(Math.floor(named / clusterSize))) return true;
    }
    return false;
  });
}

/** The active one and those of snapshots, as far as they lie in the file. */
function l1Tables(view: DataView): L1Table[] {
  const tables = [tableAt(view, view.getBigUint64(40), view.getUint32(36))];
  let at = Number(view.getBigUint64(64));
  const count = Math.min(MOST_SNAPSHOTS, view.getUint32(60));
  for (let index = 0; index < count && at + SNAPSHOT_HEADER <= view.byteLength; index++) {
    tables.push(tableAt(view, view.getBigUint64(at), view.getUint32(at + 8)));
    at += SNAPSHOT_HEADER + view.getUint32(at + 36) + view.getUint16(at + 12) + view.getUint16(at + 14);
    at = Math.ceil(at / ENTRY) * ENTRY;
  }
  return tables;
}

function tableAt(view: DataView, offset: bigint, entries: number): L1Table {
  const start = Number(offset);
  const inside = Math.max(0, Math.floor((view.byteLength - start) / ENTRY));
  return { offset: start, entries: Math.min(entries, inside, MOST_ENTRIES) };
}
