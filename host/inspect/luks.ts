/** LUKS headers: are they possible, and what would it cost to derive a key? Nothing is derived. */

import { asciiOf, hasBytes, type Reader, viewOf } from '../filesystem/reader.js';
import type { Findings } from './findings.js';
import type { Reference } from './names.js';

const MAGIC = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];
const SLOTS = 8;
const SLOT_ACTIVE = 0x00ac71f3;
const SLOT_DEAD = 0x0000dead;
/** Iterations of PBKDF2 that a reader is willing to do. */
const MAXIMUM_ITERATIONS = 12_000_000;
/** Kibibytes that Argon2 may ask for. */
const MAXIMUM_MEMORY = 4 * 1024 * 1024;
const MAXIMUM_JSON = 4 * 1024 * 1024;

/** What the header says. */
export interface LuksFacts {
  readonly version: number;
  /** Slots with a key. */
  readonly slots: number;
  /** How a key is derived from a passphrase: the names of the slots' functions. */
  readonly kdf: readonly Kdf[];
  /** Iterations of the most expensive slot, a decimal text. */
  readonly cost: string;
}

/** Names that the format has; what is none of them stands in the image, and is not repeated. */
const KDFS = ['pbkdf2', 'argon2i', 'argon2id'] as const;
export type Kdf = (typeof KDFS)[number] | 'unknown';

export async function readLuks(file: Reader, findings: Findings, offset: number): Promise<{ references: Reference[] }> {
  findings.add('crypt.present', 'The disk is encrypted', { offset });
  await judgeLuks(file, findings, offset, file.length - offset);
  return { references: [] };
}

/** Judges the header at `offset`, which may have `length` bytes. */
export async function judgeLuks(
  file: Reader,
  findings: Findings,
  offset: number,
  length: number,
): Promise<LuksFacts | undefined> {
  const header = await file.bytes(offset, 4096);
  const version = viewOf(header).getUint16(6);
  if (!hasBytes(header, 0, MAGIC) || length < 592) {
    findings.add('crypt.luks-header', 'No LUKS header', { offset, length });
    return undefined;
  }
  if (version === 1) return judgeVersion1(header, findings, offset, length);
  if (version === 2) return judgeVersion2(file, header, findings, offset, length);
  findings.add('crypt.luks-header', 'Unknown version of LUKS', { offset: offset + 6, value: version, limit: 2 });
  return undefined;
}

function judgeVersion1(header: Uint8Array, findings: Findings, offset: number, length: number): LuksFacts {
  const view = viewOf(header);
  judgeIterations(findings, offset + 164, view.getUint32(164));
  let slots = 0;
  let cost = 0;
  for (let slot = 0; slot < SLOTS; slot++) {
    const at = 208 + slot * 48;
    const state = view.getUint32(at);
    if (state !== SLOT_ACTIVE && state !== SLOT_DEAD) {
      findings.add('crypt.luks-header', 'State of a key slot', { offset: offset + at, value: state });
    }
    if (state !== SLOT_ACTIVE) continue;
    slots++;
    cost = Math.max(cost, view.getUint32(at + 4));
    judgeIterations(findings, offset + at + 4, view.getUint32(at + 4));
    const material = view.getUint32(at + 40) * 512;
    const stripes = view.getUint32(at + 44);
    if (material < 592 || material >= length) {
      findings.add('crypt.luks-header', 'Place of a key', { offset: offset + at + 40, value: material, limit: length });
    }
    if (stripes !== 4000) {
      findings.add('crypt.luks-header', 'Stripes of a key', { offset: offset + at + 44, value: stripes, limit: 4000 });
    }
  }
  return { version: 1, slots, kdf: slots === 0 ? [] : ['pbkdf2'], cost: String(cost) };
}

function judgeIterations(findings: Findings, offset: number, value: number): void {
  if (value <= MAXIMUM_ITERATIONS) return;
  findings.add('crypt.kdf-cost', 'Iterations of PBKDF2', { offset, value, limit: MAXIMUM_ITERATIONS });
}

async function judgeVersion2(
  file: Reader,
  header: Uint8Array,
  findings: Findings,
  offset: number,
  length: number,
): Promise<LuksFacts | undefined> {
  const size = Number(viewOf(header).getBigUint64(8));
  if (size < 16384 || size - 4096 > MAXIMUM_JSON || size > length) {
    findings.add('crypt.luks-header', 'Length of the header', { offset: offset + 8, value: size, limit: length });
    return undefined;
  }
  const area = asciiOf(await file.bytes(offset + 4096, size - 4096)).replace(/\0.*$/s, '');
  const slots = keySlots(area);
  if (slots === undefined) {
    findings.add('crypt.luks-header', 'The metadata of the header is no JSON', { offset: offset + 4096 });
    return undefined;
  }
  const kdf = new Set<Kdf>();
  let cost = 0;
  for (const { type, iterations, time, memory = 0 } of slots) {
    const count = Math.trunc(Number(iterations ?? time)) || 0;
    kdf.add(KDFS.find((name) => name === type) ?? 'unknown');
    cost = Math.max(cost, count);
    judgeIterations(findings, offset + 4096, count);
    if (Number(memory) > MAXIMUM_MEMORY) {
      const numbers = { offset: offset + 4096, value: Math.trunc(Number(memory)), limit: MAXIMUM_MEMORY };
      findings.add('crypt.kdf-cost', 'Kibibytes for Argon2', numbers);
    }
  }
  return { version: 2, slots: slots.length, kdf: [...kdf], cost: BigInt(Number.isFinite(cost) ? cost : 0).toString() };
}

/** What the metadata says of one slot. */
interface KeySlot {
  readonly type?: unknown;
  /** Of PBKDF2; Argon2 calls it time. */
  readonly iterations?: unknown;
  readonly time?: unknown;
  readonly memory?: unknown;
}

function keySlots(text: string): KeySlot[] | undefined {
  try {
    const { keyslots } = JSON.parse(text) as { keyslots: Record<string, { kdf?: KeySlot }> };
    return Object.values(keyslots).map(({ kdf = {} }) => kdf);
  } catch {
    return undefined;
  }
}
