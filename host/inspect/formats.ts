/** Which formats a file may be taken for: every magic number at each of its proper places, whatever the others say. */

import { isMbr } from '../filesystem/partition-table.js';
import { asciiOf, hasBytes, type Reader, viewOf } from '../filesystem/reader.js';

export const FORMAT_NAMES = [
  'qcow2',
  'raw',
  'qcow1',
  'qed',
  'vmdk',
  'vhd',
  'vhdx',
  'vdi',
  'luks',
  'iso',
  'dmg',
  'parallels',
  'cloop',
  'bochs',
  'cow',
] as const;

export type FormatName = (typeof FORMAT_NAMES)[number];

/** What can be recognised: formats, and the two partition tables of raw disks. */
export type Detected = FormatName | 'mbr' | 'gpt';

interface Signature {
  readonly name: Detected;
  /** Byte of the file; negative ones count from its end. */
  readonly offset: number;
  readonly magic: string | readonly number[];
}

/** One place where a format was recognised. */
export interface Match {
  readonly name: Detected;
  /** Byte of the file. */
  readonly offset: number;
}

const SIGNATURES: readonly Signature[] = [
  { name: 'qed', offset: 0, magic: 'QED\0' },
  { name: 'vmdk', offset: 0, magic: 'KDMV' },
  { name: 'vmdk', offset: 0, magic: 'COWD' },
  { name: 'vmdk', offset: 0, magic: [0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0] },
  { name: 'vhd', offset: 0, magic: 'conectix' },
  { name: 'vhd', offset: -512, magic: 'conectix' },
  // Old writers left out the last byte.
  { name: 'vhd', offset: -511, magic: 'conectix' },
  { name: 'vhdx', offset: 0, magic: 'vhdxfile' },
  { name: 'vdi', offset: 64, magic: [0x7f, 0x10, 0xda, 0xbe] },
  { name: 'luks', offset: 0, magic: [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] },
  { name: 'iso', offset: 0x8001, magic: 'CD001' },
  { name: 'iso', offset: 0x8801, magic: 'CD001' },
  { name: 'iso', offset: 0x9001, magic: 'CD001' },
  { name: 'iso', offset: 0x8001, magic: 'BEA01' },
  { name: 'dmg', offset: -512, magic: 'koly' },
  { name: 'parallels', offset: 0, magic: 'WithoutFreeSpace' },
  { name: 'parallels', offset: 0, magic: 'WithouFreSpacExt' },
  { name: 'cloop', offset: 0, magic: '#!/bin/sh\n#V2.0 Format\n' },
  { name: 'bochs', offset: 0, magic: 'Bochs Virtual HD Image' },
  { name: 'cow', offset: 0, magic: 'OOOM' },
  { name: 'gpt', offset: 512, magic: 'EFI PART' },
  { name: 'gpt', offset: 4096, magic: 'EFI PART' },
];

const QCOW_MAGIC = [0x51, 0x46, 0x49, 0xfb];
/** The descriptor of a disk in several files may begin with comments and empty lines, as QEMU reads it. */
const DESCRIPTOR = /^(?:\s*#[^\n]*\n|\s*\n)*\s*(?:#\s*Disk DescriptorFile|version=\d)/i;
/** Behind the last signature at the start. */
export const HEAD_LENGTH = 40960;
const TAIL_LENGTH = 512;

/** Reads start and end of the file, and says what they could be. Nothing found: a raw disk without partition table. */
export async function detectFormats(file: Reader): Promise<Match[]> {
  const head = await file.bytes(0, Math.min(HEAD_LENGTH, file.length));
  const tailOffset = Math.max(0, file.length - TAIL_LENGTH);
  const tail = await file.bytes(tailOffset, file.length - tailOffset);
  return matchesIn(head, tail, tailOffset);
}

/** The same for a start alone: what lies on a disk or in a partition. */
export function detectHead(head: Uint8Array): Match[] {
  return matchesIn(head, new Uint8Array(0), 0);
}

function matchesIn(head: Uint8Array, tail: Uint8Array, tailOffset: number): Match[] {
  const found: Match[] = [];
  const note = (name: Detected, offset: number): void => {
    if (!found.some((match) => match.name === name)) found.push({ name, offset });
  };
  if (hasBytes(head, 0, QCOW_MAGIC)) note(qcowName(head), 0);
  for (const { name, offset, magic } of SIGNATURES) {
    if (offset >= 0 && hasBytes(head, offset, magic)) note(name, offset);
    const place = tail.length + offset;
    if (offset < 0 && place >= 0 && hasBytes(tail, place, magic)) note(name, tailOffset + place);
  }
  if (!found.some(({ name }) => name === 'vmdk') && isDescriptor(head)) note('vmdk', 0);
  if (isMbr(head)) note('mbr', 510);
  return found;
}

function qcowName(head: Uint8Array): Detected {
  return head.length >= 8 && viewOf(head).getUint32(4) === 1 ? 'qcow1' : 'qcow2';
}

function isDescriptor(head: Uint8Array): boolean {
  return head.length > 0 && DESCRIPTOR.test(asciiOf(head.subarray(0, 2048)));
}

const RAW_DISKS: readonly Detected[] = ['mbr', 'gpt', 'iso'];

/**
 * What a file with these matches is. Several formats at once are ambiguous, but for what is made so on purpose: a GPT with
 * its protective MBR, an ISO that also boots from a disk, the footer of a VHD behind a disk with partitions.
 */
export function judgeMatches(matches: readonly Match[]): { format: FormatName; ambiguous: boolean } {
  const names = matches.map(({ name }) => name);
  const containers = names.filter((name) => name !== 'mbr' && name !== 'gpt') as FormatName[];
  const [first = 'raw', ...others] = containers;
  const tables = names.length > containers.length;
  const hybrid = first === 'raw' || RAW_DISKS.includes(first) || (first === 'vhd' && isTail(matches));
  return { format: first, ambiguous: others.length > 0 || (tables && !hybrid) };
}

function isTail(matches: readonly Match[]): boolean {
  return matches.some(({ name, offset }) => name === 'vhd' && offset > 0);
}
