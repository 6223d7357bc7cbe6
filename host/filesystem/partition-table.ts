/** MBR and GPT: what they list, and whether they agree with themselves and with the disk. */

import { asciiOf, crc32, hasBytes, type Reader, viewOf } from './reader.js';

/** Bytes of the disk. */
export interface Partition {
  readonly offset: number;
  readonly length: number;
  /** Type byte of an MBR as two digits, or the type GUID of a GPT. */
  readonly type: string;
  /** As Linux counts: an MBR's own from 1 on, those within an extended one from 5 on; a GPT's by the place of its entry. */
  readonly number: number;
  /** Of a GPT; else empty. */
  readonly name: string;
  /** It is there for the partitions within it. */
  readonly isExtended: boolean;
}

/** What is wrong, and at which byte of the disk. */
export interface TableFault {
  readonly message: string;
  readonly offset: number;
  readonly value?: bigint;
  readonly limit?: bigint;
}

export interface PartitionTable {
  readonly kind: 'mbr' | 'gpt';
  readonly partitions: readonly Partition[];
  readonly faults: readonly TableFault[];
}

const ENTRIES_OFFSET = 446;
const ENTRY_SIZE = 16;
const PROTECTIVE = 0xee;
const EXTENDED = [0x05, 0x0f, 0x85];
/** The first number of a partition within an extended one. */
const FIRST_LOGICAL = 5;
/** More than anybody has; bounds how long a chain of tables is followed. */
const MOST_LOGICAL = 128;
const MBR_SIGNATURE = [0x55, 0xaa];
const GPT_SIGNATURE = 'EFI PART';
const GPT_ENTRY_MINIMUM = 128;
const GPT_HEADER_MINIMUM = 92;
/** More entries than anybody has; bounds what is read. */
const GPT_MOST_ENTRIES = 1024;

/** Four entries that could be partitions, one at least; boot sectors of file systems end the same way. */
export function isMbr(head: Uint8Array): boolean {
  if (!hasBytes(head, 510, MBR_SIGNATURE)) return false;
  let used = 0;
  for (let index = 0; index < 4; index++) {
    const entry = head.subarray(ENTRIES_OFFSET + index * ENTRY_SIZE);
    if (entry[0] !== 0 && entry[0] !== 0x80) return false;
    if (entry[4] !== 0 && viewOf(entry).getUint32(12, true) > 0) used++;
  }
  return used > 0;
}

/** Reads the table of a disk whose first sector looks like an MBR or is followed by a GPT. */
export async function readPartitionTable(disk: Reader, kind: 'mbr' | 'gpt'): Promise<PartitionTable> {
  return kind === 'gpt' ? readGpt(disk) : readMbr(disk);
}

/** An entry of an MBR or of one of its kind, in bytes from where its starts count. */
interface MbrEntry {
  readonly type: number;
  readonly start: number;
  readonly length: number;
}

function mbrEntries(sector: Uint8Array): MbrEntry[] {
  const view = viewOf(sector);
  return [0, 1, 2, 3].map((index) => {
    const at = ENTRIES_OFFSET + index * ENTRY_SIZE;
    const [start, count] = [view.getUint32(at + 8, true), view.getUint32(at + 12, true)];
    return { type: sector[at + 4] as number, start: start * 512, length: count * 512 };
  });
}

async function readMbr(disk: Reader): Promise<PartitionTable> {
  const partitions: Partition[] = [];
  const faults: TableFault[] = [];
  for (const [index, { type, start, length }] of mbrEntries(await disk.bytes(0, 512)).entries()) {
    const at = ENTRIES_OFFSET + index * ENTRY_SIZE;
    if (type === 0 && length === 0) continue;
    if (type === PROTECTIVE) faults.push({ message: 'A protective entry, and no GPT', offset: at });
    const isExtended = EXTENDED.includes(type);
    partitions.push({ offset: start, length, type: typeText(type), number: index + 1, name: '', isExtended });
  }
  faults.push(...placeFaults(partitions, disk.length, ENTRIES_OFFSET));
  for (const extended of partitions.filter(({ isExtended }) => isExtended)) {
    const number = FIRST_LOGICAL + partitions.filter(({ number }) => number >= FIRST_LOGICAL).length;
    const inside = await readLogical(disk, extended, number);
    partitions.push(...inside.partitions);
    faults.push(...inside.faults, ...placeFaults(inside.partitions, disk.length, extended.offset + ENTRIES_OFFSET));
  }
  return { kind: 'mbr', partitions, faults };
}

/** The chain of tables in an extended partition: each describes one partition, and where the next table is. */
async function readLogical(
  disk: Reader,
  extended: Partition,
  firstNumber: number,
): Promise<Pick<PartitionTable, 'partitions' | 'faults'>> {
  const partitions: Partition[] = [];
  const faults: TableFault[] = [];
  const seen = new Set<number>();
  const end = Math.min(extended.offset + extended.length, disk.length);
  for (let table = extended.offset; table + 512 <= end; ) {
    if (seen.has(table) || seen.size === MOST_LOGICAL) {
      faults.push({ message: 'Tables of an extended partition that lead to each other', offset: table });
      break;
    }
    seen.add(table);
    const sector = await disk.bytes(table, 512);
    if (!hasBytes(sector, 510, MBR_SIGNATURE)) {
      faults.push({ message: 'No table in an extended partition', offset: table });
      break;
    }
    const [own, next] = mbrEntries(sector) as [MbrEntry, MbrEntry];
    if (own.type !== 0 && own.length > 0) {
      const number = firstNumber + partitions.length;
      const place = { offset: table + own.start, length: own.length };
      if (place.offset + place.length > extended.offset + extended.length) {
        faults.push({ message: 'A partition that leaves the extended one', offset: table + ENTRIES_OFFSET });
      }
      partitions.push({ ...place, type: typeText(own.type), number, name: '', isExtended: false });
    }
    if (next.type === 0 || next.length === 0) break;
    table = extended.offset + next.start;
    if (table + 512 > end) faults.push({ message: 'A table that leaves the extended partition', offset: table });
  }
  return { partitions, faults };
}

function typeText(type: number): string {
  return type.toString(16).padStart(2, '0');
}

/** Partitions lie on the disk, and not on each other. */
function placeFaults(partitions: readonly Partition[], diskLength: number, tableOffset: number): TableFault[] {
  const faults: TableFault[] = [];
  const sorted = partitions.toSorted((first, second) => first.offset - second.offset);
  let end = 0;
  for (const { offset, length } of sorted) {
    const limit = BigInt(diskLength);
    if (offset === 0 || length === 0) {
      faults.push({ message: 'A partition that is empty or begins with the table', offset: tableOffset });
    }
    if (offset + length > diskLength) {
      const message = 'A partition that ends behind the disk';
      faults.push({ message, offset: tableOffset, value: BigInt(offset + length), limit });
    }
    if (offset < end) faults.push({ message: 'Partitions that overlap', offset: tableOffset, value: BigInt(offset) });
    end = Math.max(end, offset + length);
  }
  return faults;
}

async function readGpt(disk: Reader): Promise<PartitionTable> {
  const start = await disk.bytes(0, 8192);
  const sectorSize = hasBytes(start, 512, GPT_SIGNATURE) ? 512 : 4096;
  const faults = protectiveFaults(start);
  const primary = await readGptHeader(disk, sectorSize, sectorSize);
  faults.push(...primary.faults);
  const lastSector = Math.floor(disk.length / sectorSize) - 1;
  const backup = await readGptHeader(disk, lastSector * sectorSize, sectorSize);
  if (backup.faults.length > 0) {
    faults.push({ message: 'No valid backup header in the last sector', offset: lastSector * sectorSize });
  } else if (backup.entriesCrc !== primary.entriesCrc || backup.guid !== primary.guid) {
    faults.push({ message: 'The backup header describes another table', offset: lastSector * sectorSize });
  }
  const partitions = primary.partitions;
  faults.push(...placeFaults(partitions, disk.length, sectorSize * 2));
  return { kind: 'gpt', partitions, faults };
}

/** The MBR in front of a GPT has one entry that covers everything: an older program must not find free space. */
function protectiveFaults(start: Uint8Array): TableFault[] {
  const types = [0, 1, 2, 3].map((index) => start[ENTRIES_OFFSET + index * ENTRY_SIZE + 4] as number);
  if (!hasBytes(start, 510, MBR_SIGNATURE)) return [{ message: 'A GPT without a protective MBR', offset: 510 }];
  if (!types.includes(PROTECTIVE)) return [{ message: 'A GPT beside an MBR of its own', offset: ENTRIES_OFFSET }];
  const used = types.filter((type) => type !== 0).length;
  return used > 1 ? [{ message: 'A GPT, and other entries in the MBR', offset: ENTRIES_OFFSET }] : [];
}

interface GptHeader {
  readonly partitions: readonly Partition[];
  readonly faults: TableFault[];
  readonly entriesCrc: number;
  readonly guid: string;
}

async function readGptHeader(disk: Reader, offset: number, sectorSize: number): Promise<GptHeader> {
  const nothing = { partitions: [], entriesCrc: 0, guid: '' };
  if (offset < sectorSize || offset + sectorSize > disk.length) {
    return { ...nothing, faults: [{ message: 'No room for a GPT header', offset }] };
  }
  const header = await disk.bytes(offset, sectorSize);
  const view = viewOf(header);
  if (!hasBytes(header, 0, GPT_SIGNATURE)) return { ...nothing, faults: [{ message: 'No GPT header', offset }] };
  const length = view.getUint32(12, true);
  if (length < GPT_HEADER_MINIMUM || length > sectorSize) {
    const numbers = { value: BigInt(length), limit: BigInt(sectorSize) };
    return { ...nothing, faults: [{ message: 'Length of the GPT header', offset: offset + 12, ...numbers }] };
  }
  const wantedCrc = view.getUint32(16, true);
  view.setUint32(16, 0, true);
  const faults: TableFault[] = [];
  const headerCrc = crc32(header.subarray(0, length));
  if (headerCrc !== wantedCrc) {
    const numbers = { value: BigInt(wantedCrc), limit: BigInt(headerCrc) };
    faults.push({ message: 'Checksum of the GPT header', offset: offset + 16, ...numbers });
  }
  const count = view.getUint32(80, true);
  const size = view.getUint32(84, true);
  const entriesOffset = Number(view.getBigUint64(72, true)) * sectorSize;
  const entriesCrc = view.getUint32(88, true);
  if (
    size < GPT_ENTRY_MINIMUM ||
    size > 4096 ||
    count > GPT_MOST_ENTRIES ||
    entriesOffset + count * size > disk.length
  ) {
    faults.push({ message: 'Place or number of GPT entries', offset: offset + 72, value: BigInt(count) });
    return { ...nothing, faults };
  }
  const entries = await disk.bytes(entriesOffset, count * size);
  const foundCrc = crc32(entries);
  if (foundCrc !== entriesCrc) {
    const numbers = { value: BigInt(entriesCrc), limit: BigInt(foundCrc) };
    faults.push({ message: 'Checksum of the GPT entries', offset: offset + 88, ...numbers });
  }
  const guid = asciiOf(header.subarray(56, 72));
  return { partitions: entriesIn(entries, size, sectorSize), faults, entriesCrc, guid };
}

function entriesIn(entries: Uint8Array, size: number, sectorSize: number): Partition[] {
  const partitions: Partition[] = [];
  for (let index = 0; (index + 1) * size <= entries.length; index++) {
    const at = index * size;
    const entry = entries.subarray(at, at + size);
    const view = viewOf(entry);
    const type = guidOf(entry);
    if (/^[0-]*$/.test(type)) continue;
    const first = Number(view.getBigUint64(32, true));
    const last = Number(view.getBigUint64(40, true));
    const length = Math.max(0, last - first + 1) * sectorSize;
    const name = new TextDecoder('utf-16le').decode(entry.subarray(56, 128)).replace(/\0.*$/s, '');
    partitions.push({ offset: first * sectorSize, length, type, number: index + 1, name, isExtended: false });
  }
  return partitions;
}

/** The first three groups are little-endian. */
function guidOf(bytes: Uint8Array): string {
  const digits = (from: number, to: number): string =>
    Array.from(bytes.subarray(from, to), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const reversed = (from: number, to: number): string => (digits(from, to).match(/../g) ?? []).reverse().join('');
  return `${reversed(0, 4)}-${reversed(4, 6)}-${reversed(6, 8)}-${digits(8, 10)}-${digits(10, 16)}`;
}
