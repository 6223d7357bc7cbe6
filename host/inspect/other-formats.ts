/** Headers of formats that are not qcow2: what every reader of them relies on, and which files they name. */

import { hasBytes, type Reader, viewOf } from '../filesystem/reader.js';
import type { Findings } from './findings.js';
import type { FormatName, Match } from './formats.js';
import { readLuks } from './luks.js';
import { judgeReference, type Reference } from './names.js';
import { readVmdk } from './vmdk.js';

/** What a header says beside findings. */
export interface OtherHeader {
  /** Bytes of the virtual disk, when the header says so. */
  readonly virtualSize?: bigint;
  readonly references: readonly Reference[];
}

type HeaderReader = (file: Reader, findings: Findings, offset: number) => Promise<OtherHeader>;

const READERS: Readonly<Partial<Record<FormatName, HeaderReader>>> = {
  qcow1: readQcow1,
  qed: readQed,
  vhd: readVhd,
  vhdx: readVhdx,
  vdi: readVdi,
  vmdk: readVmdk,
  luks: readLuks,
};

/** Looks at the header of a recognised format. */
export async function readOtherHeader(
  file: Reader,
  format: FormatName,
  matches: readonly Match[],
  findings: Findings,
): Promise<OtherHeader> {
  const offset = matches.find(({ name }) => name === format)?.offset ?? 0;
  const read = READERS[format];
  return read === undefined ? { references: [] } : read(file, findings, offset);
}

/** Notes that a field is not in its range. */
function judge(
  findings: Findings,
  what: string,
  good: boolean,
  numbers: { offset: number; value: bigint | number; limit?: bigint | number },
): void {
  if (!good) findings.add('format.header', what, numbers);
}

async function readQcow1(file: Reader, findings: Findings): Promise<OtherHeader> {
  const view = viewOf(await file.bytes(0, 48));
  const size = view.getBigUint64(24);
  const [clusterBits, l2Bits] = [view.getUint8(32), view.getUint8(33)];
  judge(findings, 'Cluster size', clusterBits >= 9 && clusterBits <= 16, { offset: 32, value: clusterBits, limit: 16 });
  judge(findings, 'L2 table size', l2Bits >= 6 && l2Bits <= 13, { offset: 33, value: l2Bits, limit: 13 });
  judge(findings, 'Size of the disk', size > 1n && size < 2n ** 63n, { offset: 24, value: size });
  const references: Reference[] = [];
  if (view.getBigUint64(8) !== 0n) {
    references.push(await named(file, findings, Number(view.getBigUint64(8)), view.getUint32(16)));
  }
  return { virtualSize: size, references };
}

/** A backing file whose name stands somewhere in the file. */
async function named(file: Reader, findings: Findings, offset: number, length: number): Promise<Reference> {
  findings.add('ref.backing-file', 'The image names a backing file', { offset, length });
  const readable = length > 0 && length <= 1023 && offset + length <= file.length;
  if (!readable) findings.add('ref.name-position', 'The name is not within the file', { offset, length, limit: 1023 });
  const name = readable ? await file.bytes(offset, length) : undefined;
  return judgeReference(findings, 'backing-file', name, { offset, length });
}

async function readQed(file: Reader, findings: Findings): Promise<OtherHeader> {
  const view = viewOf(await file.bytes(0, 64));
  const clusterSize = view.getUint32(4, true);
  const size = view.getBigUint64(48, true);
  const power = clusterSize >= 4096 && clusterSize <= 2 ** 26 && Number.isInteger(Math.log2(clusterSize));
  judge(findings, 'Cluster size', power, { offset: 4, value: clusterSize, limit: 2 ** 26 });
  const tableSize = view.getUint32(8, true);
  judge(findings, 'Table size', tableSize >= 1 && tableSize <= 16, { offset: 8, value: tableSize, limit: 16 });
  const l1Offset = view.getBigUint64(40, true);
  const inside = l1Offset < BigInt(file.length);
  judge(findings, 'Place of the L1 table', inside, { offset: 40, value: l1Offset, limit: file.length });
  const references: Reference[] = [];
  if ((view.getBigUint64(16, true) & 1n) !== 0n) {
    references.push(await named(file, findings, view.getUint32(56, true), view.getUint32(60, true)));
  }
  return { virtualSize: size, references };
}

const DIFFERENCING = 4;
const DYNAMIC = 3;

async function readVhd(file: Reader, findings: Findings): Promise<OtherHeader> {
  const offset = file.length - 512;
  const footer = await file.bytes(Math.max(0, offset), 512);
  if (offset < 0 || !hasBytes(footer, 0, 'conectix')) {
    findings.add('format.header', 'No footer in the last sector', { offset: Math.max(0, offset) });
    return { references: [] };
  }
  const view = viewOf(footer);
  const type = view.getUint32(60);
  judge(findings, 'Kind of disk', type >= 2 && type <= 4, { offset: offset + 60, value: type, limit: 4 });
  const version = view.getUint32(12);
  judge(findings, 'Version', version === 0x10000, { offset: offset + 12, value: version, limit: 0x10000 });
  judgeSum(findings, footer, offset, 64);
  if (type >= DYNAMIC) await judgeDynamic(file, findings, Number(view.getBigUint64(16)), offset);
  const references: Reference[] = [];
  if (type === DIFFERENCING) {
    findings.add('ref.backing-file', 'The disk continues from a parent', { offset: offset + 60, value: type });
    references.push(judgeReference(findings, 'parent', undefined, { offset, length: 0 }));
  }
  return { virtualSize: view.getBigUint64(48), references };
}

/** The one's complement of the sum of all other bytes. */
function judgeSum(findings: Findings, bytes: Uint8Array, offset: number, at: number): void {
  let sum = 0;
  for (let index = 0; index < bytes.length; index++) {
    if (index < at || index >= at + 4) sum += bytes[index] as number;
  }
  const expected = ~sum >>> 0;
  const value = viewOf(bytes).getUint32(at);
  judge(findings, 'Checksum', value === expected, { offset: offset + at, value, limit: expected });
}

async function judgeDynamic(file: Reader, findings: Findings, offset: number, footer: number): Promise<void> {
  const header = await file.bytes(Math.min(offset, file.length), 1024);
  if (!hasBytes(header, 0, 'cxsparse')) {
    findings.add('format.header', 'No header of a dynamic disk', { offset: footer + 16, value: offset });
    return;
  }
  const view = viewOf(header);
  const blocks = view.getUint32(28);
  const blockSize = view.getUint32(32);
  const table = Number(view.getBigUint64(16));
  const power = blockSize >= 512 && Number.isInteger(Math.log2(blockSize));
  judge(findings, 'Block size', power, { offset: offset + 32, value: blockSize });
  const numbers = { offset: offset + 16, value: table, limit: file.length };
  judge(findings, 'Place of the block table', table + blocks * 4 <= file.length, numbers);
  judgeSum(findings, header, offset, 36);
}

const KIB_64 = 65536;
/** GUIDs as they stand in the file. */
const METADATA_REGION = [
  0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e,
];
const FILE_PARAMETERS = [
  0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b,
];
const DISK_SIZE = [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
const MOST_ENTRIES = 2047;

async function readVhdx(file: Reader, findings: Findings): Promise<OtherHeader> {
  const first = await file.bytes(KIB_64, 8);
  const second = await file.bytes(2 * KIB_64, 8);
  if (!hasBytes(first, 0, 'head') && !hasBytes(second, 0, 'head')) {
    findings.add('format.header', 'Neither of the two headers is there', { offset: KIB_64 });
  }
  const regions = await file.bytes(3 * KIB_64, KIB_64);
  const regionAt = findEntry(regions, 'regi', 8, 16, METADATA_REGION);
  if (regionAt === undefined) {
    findings.add('format.header', 'No region of metadata', { offset: 3 * KIB_64 });
    return { references: [] };
  }
  const region = Number(viewOf(regions).getBigUint64(regionAt + 16, true));
  if (region + KIB_64 > file.length) {
    const numbers = { offset: 3 * KIB_64 + regionAt + 16, value: region, limit: file.length };
    findings.add('format.header', 'The region of metadata is not within the file', numbers);
    return { references: [] };
  }
  const table = await file.bytes(region, KIB_64);
  const item = async (guid: readonly number[]): Promise<DataView | undefined> => {
    const at = findEntry(table, 'metadata', 10, 32, guid, 2);
    if (at === undefined) return undefined;
    return viewOf(await file.bytes(region + viewOf(table).getUint32(at + 16, true), 8));
  };
  const parameters = await item(FILE_PARAMETERS);
  const size = await item(DISK_SIZE);
  if (parameters === undefined || size === undefined) {
    findings.add('format.header', 'Metadata lacks what every disk has', { offset: region });
    return { references: [] };
  }
  const references: Reference[] = [];
  if ((parameters.getUint32(4, true) & 2) !== 0) {
    findings.add('ref.backing-file', 'The disk continues from a parent', { offset: region });
    references.push(judgeReference(findings, 'parent', undefined, { offset: region, length: 0 }));
  }
  return { virtualSize: size.getBigUint64(0, true), references };
}

/** Offset of the entry of 32 bytes that begins with this GUID; the count stands at `countAt`. */
function findEntry(
  table: Uint8Array,
  signature: string,
  countAt: number,
  entriesAt: number,
  guid: readonly number[],
  countBytes: 2 | 4 = 4,
): number | undefined {
  if (!hasBytes(table, 0, signature)) return undefined;
  const view = viewOf(table);
  const count = countBytes === 2 ? view.getUint16(countAt, true) : view.getUint32(countAt, true);
  for (let index = 0; index < Math.min(count, MOST_ENTRIES); index++) {
    const at = entriesAt + index * 32;
    if (at + 32 > table.length) return undefined;
    if (hasBytes(table, at, guid)) return at;
  }
  return undefined;
}

const UNDO_OR_DIFFERENCE = 3;

async function readVdi(file: Reader, findings: Findings): Promise<OtherHeader> {
  const header = await file.bytes(0, 512);
  const view = viewOf(header);
  const [version, type] = [view.getUint32(0x44, true), view.getUint32(0x4c, true)];
  judge(findings, 'Version', version === 0x10001, { offset: 0x44, value: version, limit: 0x10001 });
  judge(findings, 'Kind of disk', type >= 1 && type <= 4, { offset: 0x4c, value: type, limit: 4 });
  const [mapOffset, dataOffset] = [view.getUint32(0x154, true), view.getUint32(0x158, true)];
  const blocks = view.getUint32(0x180, true);
  const mapEnd = mapOffset + blocks * 4;
  judge(findings, 'Place of the block map', mapOffset % 512 === 0 && mapEnd <= file.length, {
    offset: 0x154,
    value: mapOffset,
    limit: file.length,
  });
  judge(findings, 'Place of the data', dataOffset % 512 === 0 && dataOffset >= mapEnd, {
    offset: 0x158,
    value: dataOffset,
  });
  const size = view.getBigUint64(0x170, true);
  const blockSize = view.getUint32(0x178, true);
  judge(findings, 'Block size', blockSize === 2 ** 20, { offset: 0x178, value: blockSize, limit: 2 ** 20 });
  const covered = BigInt(blocks) * BigInt(blockSize);
  judge(findings, 'Size of the disk', size <= covered, { offset: 0x170, value: size, limit: covered });
  const references: Reference[] = [];
  const parent = header.subarray(0x1a8, 0x1c8).some((byte) => byte !== 0);
  if (type >= UNDO_OR_DIFFERENCE || parent) {
    findings.add('ref.backing-file', 'The disk continues from a parent', { offset: 0x4c, value: type });
    references.push(judgeReference(findings, 'parent', undefined, { offset: 0x1a8, length: 32 }));
  }
  return { virtualSize: size, references };
}
