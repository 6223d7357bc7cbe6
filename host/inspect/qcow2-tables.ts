/** Every table of a qcow2 image: the core counts all references, and what it finds is told in the inspection's words. */

import { Field, Structure } from '../abi.js';
import type { CheckFinding, CheckReport } from '../check-report.js';
import { CorralError } from '../errors.js';
import { Image } from '../image.js';
import type { Findings } from './findings.js';
import type { MeteredFile } from './metered-file.js';
import type { Qcow2Header } from './qcow2-header.js';
import { RULE_IDS, type RuleId } from './rules.js';

const COMPRESSED = 1n << 62n;
const OFFSET_MASK = 0x00fffffffffffe00n;
/** Times that a disk may be larger than what its clusters take in the file. */
const EXPANSION_LIMIT = 1000;
/** Bytes for counting one cluster, at most, and for everything else. */
const CHECK_BYTES_PER_CLUSTER = 9;
const CHECK_BYTES = 524288;
/** Bytes of tables that are held, at most: each is walked once, from its start to its end. */
const CACHE_SIZE = 2 ** 20;

export interface TableOptions {
  readonly core: WebAssembly.Module;
  /** Bytes for counting references, at most. */
  readonly mostMemory: number;
  /** Clusters that the file may have. */
  readonly maxClusters: number;
  readonly signal: AbortSignal | undefined;
}

/** What the tables say. */
export interface Layout {
  /** Guest clusters with data of their own. */
  readonly mappedClusters: number;
  readonly compressedClusters: number;
  readonly totalClusters: number;
  /** End of the last cluster in use, in bytes. */
  readonly imageEndOffset: number;
  /** Mapped bytes of the disk for each byte of the file, with two digits. */
  readonly expansionRatio: string;
}

/** Rules that this file looks for. */
export const TABLE_RULES: readonly RuleId[] = RULE_IDS.filter((id) => /^(map|refcount)\./.test(id)).concat([
  'size.expansion-ratio',
  'size.file-truncated',
  'size.trailing-data',
  'bitmap.table',
]);

/** Counts every reference. Undefined, and a finding, when the tables cannot be followed. */
export async function readTables(
  file: MeteredFile,
  header: Qcow2Header,
  options: TableOptions,
  findings: Findings,
): Promise<Layout | undefined> {
  const { facts } = header;
  const fileClusters = Math.ceil(facts.fileLength / facts.clusterSize);
  if (fileClusters > options.maxClusters) {
    const numbers = { value: fileClusters, limit: options.maxClusters };
    findings.add('limit.clusters', 'The file has more clusters than the limit', numbers);
    return undefined;
  }
  const checkSize = Math.min(options.mostMemory, CHECK_BYTES + fileClusters * CHECK_BYTES_PER_CLUSTER);
  const memory = { checkSize, cacheSize: Math.min(CACHE_SIZE, facts.fileLength) };
  const report = await checkImage(file, memory, options, findings);
  if (report === undefined) return undefined;
  for (const finding of report.findings) noteFinding(findings, finding, header);
  noteRest(findings, report);
  return judgeLayout(findings, report, header);
}

async function checkImage(
  file: MeteredFile,
  memory: { checkSize: number; cacheSize: number },
  { core, signal }: TableOptions,
  findings: Findings,
): Promise<CheckReport | undefined> {
  try {
    const image = await Image.open(file, { core, tablesOnly: true, requestCapacity: 1, ...memory });
    return await image.check({ signal });
  } catch (error) {
    if (!(error instanceof CorralError)) throw error;
    const { details, code } = error;
    const numbers = { offset: details.hostOffset, value: details.found, limit: details.limit };
    if (code === 'ERR_IMAGE_CORRUPT')
      findings.add(refusedRule(details.structureCode ?? 0), 'A table cannot be followed', numbers);
    else if (code === 'ERR_UNSUPPORTED')
      findings.add('inspect.unsupported', 'Tables of this image cannot be counted yet', numbers);
    else if (code === 'ERR_TOO_LARGE')
      findings.add('limit.memory', 'A table is longer than there is memory for', numbers);
    else throw error;
    return undefined;
  }
}

function refusedRule(structure: number): RuleId {
  if (structure === Structure.SnapshotTable) return 'snap.table';
  if (structure === Structure.BitmapDirectory || structure === Structure.BitmapTable) return 'bitmap.table';
  return structure === Structure.RefcountTable ? 'refcount.table' : 'map.offset-range';
}

const FIELD_RULES: Readonly<Record<number, RuleId>> = {
  [Field.Alignment]: 'map.offset-alignment',
  [Field.ReservedBits]: 'map.reserved-bits',
  [Field.Copied]: 'map.copied-flag',
  [Field.Compression]: 'map.compressed-range',
  [Field.Subclusters]: 'map.extl2-bitmap',
  [Field.Offset]: 'map.offset-range',
  [Field.L1TableOffset]: 'map.offset-range',
};

const MESSAGES: Readonly<Partial<Record<RuleId, string>>> = {
  'map.points-to-metadata': 'More refers to a cluster of metadata than the image itself',
  'map.shared-cluster': 'A cluster has more owners than its refcount says',
  'refcount.mismatch': 'A refcount is too low',
  'refcount.leak': 'A refcount is too high',
  'refcount.table': 'An entry of the refcount table is wrong',
  'snap.table': 'An entry of the snapshot table is wrong',
  'snap.extra-data': 'A snapshot has too much extra data',
  'bitmap.table': 'A bitmap cannot be loaded',
  'map.offset-range': 'An entry points outside the file',
  'map.offset-alignment': 'An entry points between clusters',
  'map.reserved-bits': 'An entry has reserved bits',
  'map.copied-flag': 'The COPIED flag of an entry contradicts the refcount',
  'map.compressed-range': 'A compressed cluster is not where it may be',
  'map.extl2-bitmap': 'Bits of subclusters exclude each other',
};

function noteFinding(findings: Findings, finding: CheckFinding, header: Qcow2Header): void {
  const id = ruleOfFinding(finding, header);
  const { hostOffset: offset, found: value, expected: limit } = finding;
  findings.add(id, MESSAGES[id] ?? id, { offset, value, limit });
  const target = value & OFFSET_MASK;
  const { fileLength } = header.facts;
  if (id !== 'map.offset-range' || target < BigInt(fileLength) || findings.has('size.file-truncated')) return;
  const numbers = { offset, value: target, limit: fileLength };
  findings.add('size.file-truncated', 'The file ends before what its tables name', numbers);
}

function ruleOfFinding(finding: CheckFinding, header: Qcow2Header): RuleId {
  const { structure, field, leak, found } = finding;
  if (leak) return 'refcount.leak';
  switch (structure) {
    case Structure.RefcountBlock:
      return field === Field.Refcount ? countRule(finding, header) : 'refcount.table';
    case Structure.RefcountTable:
      return 'refcount.table';
    case Structure.SnapshotTable:
      return field === Field.SnapshotExtraData ? 'snap.extra-data' : 'snap.table';
    case Structure.BitmapDirectory:
    case Structure.BitmapTable:
    case Structure.BitmapBits:
      return 'bitmap.table';
    default:
      if (field === Field.Offset && structure === Structure.L2Table && (found & COMPRESSED) !== 0n) {
        return 'map.compressed-range';
      }
      return FIELD_RULES[field] ?? 'map.offset-range';
  }
}

/** A refcount that is too low: of what? */
function countRule({ hostOffset, expected }: CheckFinding, { facts }: Qcow2Header): RuleId {
  if (expected < 2n) return 'refcount.mismatch';
  const { clusterSize, l1TableOffset, l1Size, refcountTableOffset, refcountTableClusters } = facts;
  const within = (start: number, length: number): boolean => hostOffset >= start && hostOffset < start + length;
  const metadata =
    within(0, clusterSize) ||
    within(l1TableOffset, Math.max(clusterSize, l1Size * 8)) ||
    within(refcountTableOffset, refcountTableClusters * clusterSize);
  return metadata ? 'map.points-to-metadata' : 'map.shared-cluster';
}

/** What is counted but not listed. */
function noteRest(findings: Findings, report: CheckReport): void {
  const leaks = report.findings.filter(({ leak }) => leak).length;
  const errors = report.findings.length - leaks;
  const more = report.corruptions - errors;
  // One entry that many tables share is one finding, and counts as often as it is used.
  if (more > 0) findings.add('map.more', 'More errors than are listed', { value: report.corruptions }, more);
  if (report.leaks > leaks) {
    findings.add('refcount.leak', 'More leaks than are listed', { value: report.leaks }, report.leaks - leaks);
  }
  if (report.checkErrors > 0) {
    findings.add('inspect.unsupported', 'Structures could not be followed', { value: report.checkErrors });
  }
}

function judgeLayout(findings: Findings, report: CheckReport, { facts }: Qcow2Header): Layout {
  const { clusterSize, fileLength } = facts;
  const mapped = report.allocatedClusters * clusterSize;
  const used = Math.max(clusterSize, Math.min(fileLength, report.imageEndOffset));
  const ratio = facts.hasDataFile ? 0 : mapped / used;
  if (ratio > EXPANSION_LIMIT) {
    const numbers = { length: mapped, value: Math.floor(ratio), limit: EXPANSION_LIMIT };
    findings.add('size.expansion-ratio', 'The disk has far more bytes than the file', numbers);
  }
  if (fileLength >= report.imageEndOffset + clusterSize) {
    const length = fileLength - report.imageEndOffset;
    findings.add('size.trailing-data', 'Bytes follow the last cluster in use', {
      offset: report.imageEndOffset,
      length,
    });
  }
  return {
    mappedClusters: report.allocatedClusters,
    compressedClusters: report.compressedClusters,
    totalClusters: report.totalClusters,
    imageEndOffset: report.imageEndOffset,
    expansionRatio: ratio.toFixed(2),
  };
}
