/** What a disk holds: partition tables, images within the image, and what its parts seem to be. Nothing is mounted. */

import { type Partition, readPartitionTable } from '../filesystem/partition-table.js';
import { hasBytes, type Reader } from '../filesystem/reader.js';
import type { Findings } from './findings.js';
import { type Detected, detectHead, judgeMatches, type Match } from './formats.js';

/** Bytes at the start of a disk or partition that identify it. */
const HEAD_LENGTH = 69632;
const MOST_PARTITIONS = 128;

interface FileSystem {
  readonly name: string;
  readonly offset: number;
  readonly magic: string | readonly number[];
}

const FILE_SYSTEMS: readonly FileSystem[] = [
  { name: 'ext', offset: 0x438, magic: [0x53, 0xef] },
  { name: 'xfs', offset: 0, magic: 'XFSB' },
  { name: 'btrfs', offset: 0x10040, magic: '_BHRfS_M' },
  { name: 'ntfs', offset: 3, magic: 'NTFS    ' },
  { name: 'exfat', offset: 3, magic: 'EXFAT   ' },
  { name: 'fat32', offset: 82, magic: 'FAT32' },
  { name: 'fat16', offset: 54, magic: 'FAT16' },
  { name: 'fat12', offset: 54, magic: 'FAT12' },
  { name: 'swap', offset: 4086, magic: 'SWAPSPACE2' },
  { name: 'lvm', offset: 512, magic: 'LABELONE' },
  { name: 'squashfs', offset: 0, magic: 'hsqs' },
];

/** No images: disks that may lie on a disk. */
const HARMLESS: readonly Detected[] = ['mbr', 'gpt', 'iso', 'luks'];

/** A stretch of the disk: bytes as decimal texts. */
export interface PartReport {
  readonly offset: string;
  readonly length: string;
  /** Of the partition table's entry. */
  readonly type: string | undefined;
  /** What its first bytes are those of. */
  readonly holds: readonly string[];
}

export interface DiskReport {
  /** Number of the snapshot in the table, from 0 on; undefined: the active disk. */
  readonly snapshot: number | undefined;
  readonly table: 'mbr' | 'gpt' | undefined;
  /** What the first bytes of the disk are those of. */
  readonly holds: readonly string[];
  readonly partitions: readonly PartReport[];
}

/** Looks at one disk. `isFile`: the disk is the file itself, whose format was judged before. */
export async function inspectDisk(
  disk: Reader,
  findings: Findings,
  { snapshot, isFile }: { snapshot?: number; isFile: boolean },
): Promise<DiskReport> {
  const head = await disk.bytes(0, Math.min(HEAD_LENGTH, disk.length));
  const matches = detectHead(head);
  const where = snapshot === undefined ? 'the disk' : 'a snapshot';
  const nested = matches.find(({ name }) => !HARMLESS.includes(name));
  if (nested !== undefined && !isFile) {
    findings.add('content.nested-format', `An image lies at the start of ${where}`, { offset: nested.offset });
  }
  const kind = tableOf(matches);
  const holds = holdsOf(head, matches);
  if (kind === undefined) return { snapshot, table: undefined, holds, partitions: [] };
  const table = await readPartitionTable(disk, kind);
  for (const { message, ...numbers } of table.faults) {
    findings.add('content.partition-table', `The partition table of ${where}: ${message}`, numbers);
  }
  const partitions: PartReport[] = [];
  for (const partition of table.partitions.slice(0, MOST_PARTITIONS)) {
    partitions.push(await inspectPartition(disk, partition, findings));
  }
  return { snapshot, table: kind, holds, partitions };
}

function tableOf(matches: readonly Match[]): 'mbr' | 'gpt' | undefined {
  if (judgeMatches(matches).format !== 'raw' && !matches.some(({ name }) => name === 'iso')) return undefined;
  if (matches.some(({ name }) => name === 'gpt')) return 'gpt';
  return matches.some(({ name }) => name === 'mbr') ? 'mbr' : undefined;
}

async function inspectPartition(disk: Reader, partition: Partition, findings: Findings): Promise<PartReport> {
  const { offset, length, type } = partition;
  const inside = Number.isSafeInteger(offset) && offset < disk.length;
  const head = inside ? await disk.bytes(offset, Math.min(HEAD_LENGTH, length, disk.length - offset)) : undefined;
  const matches = head === undefined ? [] : detectHead(head);
  const nested = matches.find(({ name }) => !HARMLESS.includes(name));
  if (nested !== undefined) findings.add('content.nested-partition', 'A partition is a disk image', { offset });
  const holds = head === undefined ? [] : holdsOf(head, matches);
  if (holds.length > 0) findings.add('content.fs-id', 'What a partition holds is known', { offset, length });
  return { offset: BigInt(offset).toString(), length: BigInt(length).toString(), type, holds };
}

function holdsOf(head: Uint8Array, matches: readonly Match[]): string[] {
  const systems = FILE_SYSTEMS.filter(({ offset, magic }) => hasBytes(head, offset, magic)).map(({ name }) => name);
  return [...matches.map(({ name }): string => name), ...systems];
}
