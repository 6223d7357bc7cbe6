/** What a check has found, each in one line: in QEMU's words where it has some. */

import { Field, Structure } from '../abi.js';
import type { CheckFinding, CheckReport } from '../check-report.js';
import type { ImageFacts } from '../image-facts.js';

export type CheckedImage = Pick<ImageFacts, 'clusterSize' | 'l1TableOffset'>;

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const OFFSET_BITS = 0xfffffffffffe00n;

const STRUCTURES: Readonly<Record<number, string>> = {
  [Structure.Header]: 'header',
  [Structure.L1Table]: 'L1 table',
  [Structure.L2Table]: 'L2 table',
  [Structure.RefcountTable]: 'refcount table',
  [Structure.RefcountBlock]: 'refcount block',
  [Structure.SnapshotTable]: 'snapshot table',
  [Structure.DataCluster]: 'data cluster',
  [Structure.HeaderExtension]: 'header extension',
  [Structure.BitmapDirectory]: 'bitmap directory',
  [Structure.BitmapTable]: 'bitmap table',
};

/** The lines in QEMU's order: entries, refcounts and what became of them, flags. */
export function findingLines({ findings, rebuilt }: CheckReport, image: CheckedImage): string[] {
  const refcounts = findings.filter(({ field }) => field === Field.Refcount);
  const copied = findings.filter(({ field }) => field === Field.Copied);
  const others = findings.filter(({ field }) => field !== Field.Refcount && field !== Field.Copied);
  const first = refcounts.filter(({ repaired }) => repaired && !rebuilt);
  return [
    ...others.map((finding) => findingLine(finding, findings, image)),
    ...first.map((finding) => refcountLine(finding, image.clusterSize)),
    ...[...refcounts, ...copied].map((finding) => findingLine(finding, findings, image)),
  ];
}

/** One finding in one line; QEMU's words for the frequent ones. */
function findingLine(finding: CheckFinding, all: readonly CheckFinding[], image: CheckedImage): string {
  const { structure, field, hostOffset, found, expected, leak, repaired } = finding;
  if (repaired && field === Field.Refcount) return refcountLine(finding, image.clusterSize, 'Repairing');
  if (leak || field === Field.Refcount) return refcountLine(finding, image.clusterSize);
  const refcount = field === Field.Copied ? refcountBehind(finding, all) : undefined;
  if (refcount !== undefined) return copiedLine(finding, refcount, image.l1TableOffset);
  if (field === Field.Offset && isPlainEntry(finding)) {
    const range = `offset 0x${(found & OFFSET_BITS).toString(16)} size 0x${image.clusterSize.toString(16)}`;
    return `ERROR: counting reference for region exceeding the end of the file by one cluster or more: ${range}`;
  }
  const entry = `${STRUCTURES[structure] ?? 'structure'} entry ${found.toString(16)} at file offset 0x${hostOffset.toString(16)}`;
  if (repaired) return `Repairing ${field === Field.Copied ? 'OFLAG_COPIED' : fieldName(field)}: ${entry}`;
  const words = isPlainEntry(finding) ? entryWords(finding) : undefined;
  if (words !== undefined) return words;
  switch (field) {
    case Field.ReservedBits:
      return `ERROR reserved bits are set: ${entry}`;
    case Field.Alignment:
      return `ERROR not cluster aligned: ${entry}`;
    case Field.Offset:
      return `ERROR points beyond the end of the file: ${entry}`;
    case Field.Copied:
      return `ERROR OFLAG_COPIED: ${entry}`;
    case Field.Overlap:
      return `ERROR overlaps another structure: ${entry}`;
    default:
      return `ERROR wrong ${fieldName(field)}: ${entry}, expected ${expected.toString(16)}`;
  }
}

/** Of entries of L1 and L2 tables. */
function entryWords({ structure, field, found }: CheckFinding): string | undefined {
  const isL1 = structure === Structure.L1Table;
  const offset = (found & OFFSET_BITS).toString(16);
  if (field === Field.ReservedBits) {
    return `ERROR found ${isL1 ? 'L1' : 'l2'} entry with reserved bits set: ${found.toString(16)}`;
  }
  if (field !== Field.Alignment) return undefined;
  return isL1
    ? `ERROR l2_offset=${offset}: Table is not cluster aligned; L1 entry corrupted`
    : `ERROR offset=${offset}: Data cluster is not properly aligned; L2 entry corrupted.`;
}

/** An entry of an L1 or L2 table that is no compressed cluster's. */
function isPlainEntry({ structure, found }: CheckFinding): boolean {
  return structure === Structure.L1Table || (structure === Structure.L2Table && (found & COMPRESSED) === 0n);
}

/** How many references the cluster has that an entry names; undefined when nothing that was found says so. */
function refcountBehind(finding: CheckFinding, all: readonly CheckFinding[]): bigint | undefined {
  if (!isPlainEntry(finding)) return undefined;
  // It lacks the flag.
  if ((finding.found & COPIED) === 0n) return 1n;
  const offset = Number(finding.found & OFFSET_BITS);
  const wrong = all.find(({ field, hostOffset }) => field === Field.Refcount && hostOffset === offset);
  return wrong?.repaired ? wrong.expected : wrong?.found;
}

function copiedLine({ structure, hostOffset, found, repaired }: CheckFinding, refcount: bigint, l1: number): string {
  const entry = found.toString(16);
  const where =
    structure === Structure.L1Table
      ? `L2 cluster: l1_index=${(hostOffset - l1) / 8} l1_entry=${entry}`
      : `data cluster: l2_entry=${entry}`;
  return `${repaired ? 'Repairing' : 'ERROR'} OFLAG_COPIED ${where} refcount=${refcount}`;
}

function refcountLine(
  { hostOffset, found, expected }: CheckFinding,
  clusterSize: number,
  what = found > expected ? 'Leaked' : 'ERROR',
): string {
  return `${what} cluster ${Math.floor(hostOffset / clusterSize)} refcount=${found} reference=${expected}`;
}

/** "L1TableOffset" as "L1 table offset". */
function fieldName(field: number): string {
  const name = Object.entries(Field).find(([, value]) => value === field)?.[0] ?? 'Field';
  return name.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
