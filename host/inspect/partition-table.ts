/** MBR and GPT: what they list, and whether they agree with themselves and with the disk. */

import { asciiOf, crc32, hasBytes, type Reader, viewOf } from './reader.js';

/** Bytes of the disk. */
export interface Partition {
  readonly offset: number;
  readonly length: number;
  /** Type byte of an MBR as two digits, or the type GUID of a GPT. */
  readonly type: string;
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
const GPT_SIGNATURE = 'EFI PART';
const GPT_ENTRY_MINIMUM = 128;
const GPT_HEADER_MINIMUM = 92;
/** More entries than anybody has; bounds what is read. */
const GPT_MOST_ENTRIES = 1024;

/** Reads the table of a disk whose first sector looks like an MBR or is followed by a GPT. */
export async function readPartitionTable(disk: Reader, kind: 'mbr' | 'gpt'): Promise<PartitionTable> {
  return kind === 'gpt' ? readGpt(disk) : readMbr(disk);
}

async function readMbr(disk: Reader): Promise<PartitionTable> {
  const sector = await disk.bytes(0, 512);
  const view = viewOf(sector);
  const partitions: Partition[] = [];
  const faults: TableFault[] = [];
  for (let index = 0; index < 4; index++) {
    const at = ENTRIES_OFFSET + index * ENTRY_SIZE;
    const type = sector[at + 4] as number;
    const start = view.getUint32(at + 8, true);
    const count = view.getUint32(at + 12, true);
    if (type === 0 && count === 0) continue;
    if (type === PROTECTIVE) faults.push({ message: 'A protective entry, and no GPT', offset: at });
    const type16 = type.toString(16).padStart(2, '0');
    partitions.push({ offset: start * 512, length: count * 512, type: type16 });
  }
  faults.push(...placeFaults(partitions, disk.length, ENTRIES_OFFSET));
  return { kind: 'mbr', partitions, faults };
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
  if (!hasBytes(start, 510, [0x55, 0xaa])) return [{ message: 'A GPT without a protective MBR', offset: 510 }];
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
  for (let at = 0; at + size <= entries.length; at += size) {
    const entry = entries.subarray(at, at + size);
    const view = viewOf(entry);
    const type = guidOf(entry);
    if (/^[0-]*$/.test(type)) continue;
    const first = Number(view.getBigUint64(32, true));
    const last = Number(view.getBigUint64(40, true));
    const length = Math.max(0, last - first + 1) * sectorSize;
    partitions.push({ offset: first * sectorSize, length, type });
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
