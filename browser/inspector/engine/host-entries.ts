/** Entries of tables as two halves of 32 bits: as fast as numbers get in JavaScript. Offsets are bytes. */

const OFFSET_HIGH = 0x00ff_ffff;
const OFFSET_LOW = 0xffff_fe00;
const COMPRESSED = 0x4000_0000;
const HALF = 2 ** 32;

/** A place in the file that an L2 entry names. */
export interface EntryPlace {
  readonly offset: number;
  readonly length: number;
  readonly compressed: boolean;
}

/** Offset that a table entry names; 0 for none. */
export function entryOffset(view: DataView, at: number): number {
  return (view.getUint32(at) & OFFSET_HIGH) * HALF + ((view.getUint32(at + 4) & OFFSET_LOW) >>> 0);
}

/** A number of 64 bits; beyond 2^53 only near it, which is far behind the end of any file. */
export function wideNumber(view: DataView, at: number): number {
  return view.getUint32(at) * HALF + view.getUint32(at + 4);
}

/** What an L2 entry names; undefined when that is nothing. */
export function entryPlace(view: DataView, at: number, clusterBits: number): EntryPlace | undefined {
  const high = view.getUint32(at);
  if ((high & COMPRESSED) === 0) {
    const offset = entryOffset(view, at);
    return offset === 0 ? undefined : { offset, length: 2 ** clusterBits, compressed: false };
  }
  // The descriptor: 62 bits, of which the lower 70 - clusterBits are the offset, the others whole sectors behind it.
  const highBits = 38 - clusterBits;
  const offset = (high & (2 ** highBits - 1)) * HALF + view.getUint32(at + 4);
  const sectors = (high & 0x3fff_ffff) >>> highBits;
  return { offset, length: (sectors + 1) * 512 - (offset % 512), compressed: true };
}

/** The refcount with this number in a block. */
export function refcountAt(block: Uint8Array, index: number, bits: number): number {
  const at = Math.floor((index * bits) / 8);
  const byte = block[at] as number;
  if (bits < 8) return (byte >> ((index * bits) % 8)) & (2 ** bits - 1);
  let value = 0;
  for (let each = 0; each < bits / 8; each++) value = value * 256 + (block[at + each] as number);
  return value;
}

/** Whether any byte differs from zero; for whole blocks that say nothing. */
export function isZero(bytes: Uint8Array): boolean {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  return words.every((word) => word === 0);
}
