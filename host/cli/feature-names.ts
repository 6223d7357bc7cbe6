/** What the unknown features of an image are called: in the image, where it says so. */

import type { BlockFile } from '../block-file.js';

const FEATURE_TABLE = 0x6803f857;
const INCOMPATIBLE = 0;
/** Bytes of an entry: kind, bit, name. */
const ENTRY = 48;
/** Bytes from the start of the file in which the header extensions of any image lie, or enough of them. */
const LOOKED_AT = 65536;

/** Names of the incompatible features with these bits, in the table's order, as QEMU lists them. */
export async function featureNames(file: BlockFile, bits: bigint): Promise<string> {
  const bytes = new Uint8Array(LOOKED_AT);
  await file.read(0, bytes);
  const table = findTable(bytes);
  const names: string[] = [];
  let left = bits;
  for (let at = 0; at + ENTRY <= table.length; at += ENTRY) {
    const name = nameOf(table.subarray(at + 2, at + ENTRY));
    if (name === '') break;
    const bit = 1n << BigInt(table[at + 1] as number);
    if (table[at] !== INCOMPATIBLE || (left & bit) === 0n) continue;
    names.push(name);
    left ^= bit;
  }
  if (left !== 0n) names.push(`Unknown incompatible feature: ${left.toString(16)}`);
  return names.join(', ');
}

function findTable(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer);
  let table = bytes.subarray(0, 0);
  for (let at = view.getUint32(100); at + 8 <= bytes.length; ) {
    const [kind, length] = [view.getUint32(at), view.getUint32(at + 4)];
    // Of several, the last one counts in QEMU, and so does an entry that is cut off.
    if (kind === FEATURE_TABLE) table = padded(bytes.subarray(at + 8, at + 8 + length));
    if (kind === 0) break;
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return table;
}

function padded(table: Uint8Array): Uint8Array {
  const entries = new Uint8Array(Math.ceil(table.length / ENTRY) * ENTRY);
  entries.set(table);
  return entries;
}

function nameOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
}
