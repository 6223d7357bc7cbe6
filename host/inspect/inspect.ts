/**
 * What an image from a stranger is, and whether to accept it. The answer is a function of the file's bytes and the options:
 * nothing is written, nothing but the given file is opened, looked at or asked for, whatever the image names, unless the
 * caller allows it.
 */

import type { BlockFile } from '../block-file.js';
import type { Codec } from '../codec/codec.js';
import { portableCodec } from '../codec/portable-codec.js';
import { CorralError, cancelled } from '../errors.js';
import { MemoryFile } from '../memory-file.js';
import type { AllowedReferences } from './allowed.js';
import { type ChainOptions, followChain } from './chain.js';
import { type DiskReport, inspectDisk } from './content.js';
import { Findings, verdictOf } from './findings.js';
import { detectFormats, type FormatName, judgeMatches, type Match } from './formats.js';
import { judgeLuks, type LuksFacts } from './luks.js';
import { MeteredFile } from './metered-file.js';
import type { Reference } from './names.js';
import { readOtherHeader } from './other-formats.js';
import { type Policy, type PolicyName, policyOf } from './policy.js';
import { CONTENT_RULES, readContent } from './qcow2-content.js';
import { featureNames, type Qcow2Header, readQcow2Header } from './qcow2-header.js';
import { bitmapReports, type Lists, readLists, snapshotReports } from './qcow2-lists.js';
import { type Layout, readTables, TABLE_RULES } from './qcow2-tables.js';
import { type InspectReport, REPORT_VERSION } from './report.js';
import { DEPTHS, type Depth } from './rules.js';

const MIB = 2 ** 20;

/** What an inspection may use. Bytes and milliseconds. */
export interface InspectLimits {
  /** Bytes to read from the file, default 256 MiB. */
  readonly maxRead: number;
  /** Default 10 seconds. */
  readonly maxTime: number;
  /** Memory of the core, default 64 MiB. */
  readonly maxMemory: number;
  /** Clusters of the file, default 2^26. */
  readonly maxClusters: number;
  /** Snapshots to look into, default 64. */
  readonly maxSnapshots: number;
  /** Bytes of the virtual disk; default: what the policy says. */
  readonly maxVirtualSize: number;
}

export interface InspectOptions {
  /** The compiled core, as for `Image.open`. */
  core: WebAssembly.Module;
  /** Default: upload. */
  policy?: PolicyName | Policy;
  /** Default: tables. */
  depth?: Depth;
  /** What the owner says the file is; another format is a finding. */
  declared?: FormatName;
  limits?: Partial<InspectLimits>;
  /** Files that the image may name; they are inspected, too. Default: none, and nothing else is opened. */
  references?: ChainOptions;
  /** Decompresses clusters at depth full. Default: fflate and fzstd. */
  codec?: Codec;
  signal?: AbortSignal;
  /** Milliseconds since any moment, for the time limit. Default: the host's clock. */
  now?: () => number;
}

export const DEFAULT_LIMITS: Omit<InspectLimits, 'maxVirtualSize'> = {
  maxRead: 256 * MIB,
  maxTime: 10_000,
  maxMemory: 64 * MIB,
  maxClusters: 2 ** 26,
  maxSnapshots: 64,
};

/** No more than this for counting: a longer file is counted in several rounds. */
const LARGEST_CHECK_SIZE = 16 * MIB;
const SMALLEST_CHECK_SIZE = 65536;

/** Of one file. */
export interface FileOptions extends Omit<InspectOptions, 'references'> {
  allowed?: AllowedReferences | undefined;
}

/** What has been found out so far. */
interface State {
  readonly file: MeteredFile;
  readonly findings: Findings;
  readonly depth: Depth;
  readonly options: Omit<FileOptions, 'core'>;
  readonly limits: InspectLimits;
  format: FormatName;
  matches: readonly Match[];
  header?: Qcow2Header | undefined;
  luks?: LuksFacts | undefined;
  lists?: Lists;
  layout?: Layout | undefined;
  virtualSize?: bigint | undefined;
  references: readonly Reference[];
  disks: readonly DiskReport[];
}

/**
 * Inspects a file, which stays the caller's. Never rejects because of what is in it: a mistake of ours is a finding, too.
 * Rejects with ERR_CANCELLED when the signal ends it, and with ERR_INVALID_ARGUMENT for options without sense.
 */
export async function inspect(file: BlockFile, options: InspectOptions): Promise<InspectReport> {
  const { references, ...rest } = options;
  if (references === undefined) return inspectFile(file, rest);
  const now = rest.now ?? (() => performance.now());
  const { maxRead = DEFAULT_LIMITS.maxRead, maxTime = DEFAULT_LIMITS.maxTime } = rest.limits ?? {};
  const end = now() + maxTime;
  const first = await inspectFile(file, { ...rest, allowed: references });
  return followChain(first, file, references, ({ file: next, declared, path, bytesRead }) => {
    const left = { maxRead: Math.max(0, maxRead - bytesRead), maxTime: Math.max(0, end - now()) };
    const allowed = { ...references, path };
    return inspectFile(next, { ...rest, declared, allowed, limits: { ...rest.limits, ...left } });
  });
}

/** One file, by itself. `allowed`: what it may name, and who names it is not rejected for that; nothing of it is opened. */
export async function inspectFile(file: BlockFile, options: FileOptions): Promise<InspectReport> {
  const { signal } = options;
  if (signal?.aborted) throw cancelled(signal);
  const state = newState(file, await file.size(), options);
  try {
    await lookAt(state, options.core);
  } catch (error) {
    if (signal?.aborted) throw cancelled(signal);
    noteEnd(state, error);
  }
  return reportOf(state);
}

/**
 * The report of an inspection that was ended from outside, because its time was over or because it broke down: nothing is
 * known of the file but its length in bytes.
 */
export function endedReport(
  length: number,
  options: Omit<FileOptions, 'core'>,
  id: 'limit.time' | 'inspect.internal-error',
): InspectReport {
  const state = newState(new MemoryFile(), length, options);
  if (id === 'limit.time') state.findings.add(id, 'It would take longer', { limit: state.limits.maxTime });
  else state.findings.add(id, 'The inspector broke down');
  return reportOf(state);
}

function newState(file: BlockFile, length: number, options: Omit<FileOptions, 'core'>): State {
  const policy = policyOf(options.policy ?? 'upload');
  const limits = { maxVirtualSize: policy.maxVirtualSize, ...DEFAULT_LIMITS, ...options.limits };
  const { maxRead, maxTime } = limits;
  const now = options.now ?? (() => performance.now());
  return {
    file: new MeteredFile(file, length, { maxRead, maxTime, now, signal: options.signal }),
    findings: new Findings(policy, options.allowed),
    depth: options.depth ?? 'tables',
    options,
    limits,
    format: 'raw',
    matches: [],
    references: [],
    disks: [],
  };
}

/** From the outside in; each depth is finished before the next one begins. */
async function lookAt(state: State, core: WebAssembly.Module): Promise<void> {
  const { findings, file } = state;
  await identify(state);
  const isQcow2 = state.format === 'qcow2';
  if (isQcow2) await lookAtQcow2(state, core);
  else await lookAtOther(state);
  judgeSize(state);
  if (isQcow2 && state.header === undefined) return;
  findings.finish('header');
  if (!reaches(state, 'tables')) return;
  if (isQcow2) await lookAtTables(state, core, state.header as Qcow2Header);
  else findings.skip(TABLE_RULES);
  findings.finish('tables');
  if (!reaches(state, 'full')) return;
  if (isQcow2) await lookAtContent(state, core, state.header as Qcow2Header);
  else if (state.format === 'raw' || state.format === 'iso') {
    state.disks = [await inspectDisk(file, findings, { isFile: true })];
  } else findings.skip(CONTENT_RULES);
  findings.finish('full');
}

function reaches({ depth }: State, wanted: Depth): boolean {
  return DEPTHS.indexOf(depth) >= DEPTHS.indexOf(wanted);
}

async function identify(state: State): Promise<void> {
  const { file, findings, options } = state;
  state.matches = await detectFormats(file);
  const { format, ambiguous } = judgeMatches(state.matches);
  state.format = format;
  const [first] = state.matches;
  const numbers = { offset: first?.offset };
  if (ambiguous) findings.add('format.ambiguous', 'The file is of several formats at once', numbers);
  if (options.declared !== undefined && options.declared !== format) {
    findings.add('format.declared-mismatch', 'The file is of another format than was declared', numbers);
  }
  if (!findings.policy.formats.includes(format)) {
    findings.add('format.banned', 'The policy does not allow this format', numbers);
  }
  if (first === undefined) findings.add('format.raw-fallback', 'No format was recognised', { length: file.length });
}

async function lookAtOther(state: State): Promise<void> {
  const { file, findings, format, matches } = state;
  if (format === 'raw') {
    state.virtualSize = BigInt(file.length);
    return;
  }
  findings.add('format.header-only', 'Of this format only the header is looked at');
  const { virtualSize, references } = await readOtherHeader(file, format, matches, findings);
  state.virtualSize = virtualSize;
  state.references = references;
}

async function lookAtQcow2(state: State, core: WebAssembly.Module): Promise<void> {
  const { file, findings } = state;
  const opened = await readQcow2Header(file, core, findings);
  if (opened === undefined) return;
  const { engine, header } = opened;
  state.header = header;
  state.references = header.references;
  state.virtualSize = header.virtualSize;
  const { encryption } = header;
  if (encryption !== undefined) state.luks = await judgeLuks(file, findings, encryption.offset, encryption.length);
  state.lists = await readLists(engine, header, findings);
}

function judgeSize({ virtualSize, limits, findings }: State): void {
  if (virtualSize === undefined || virtualSize <= BigInt(limits.maxVirtualSize)) return;
  const numbers = { value: virtualSize, limit: limits.maxVirtualSize };
  findings.add('size.virtual-limit', 'The disk is larger than allowed', numbers);
}

async function lookAtTables(state: State, core: WebAssembly.Module, header: Qcow2Header): Promise<void> {
  const { file, findings, options, limits } = state;
  const mostMemory = Math.min(LARGEST_CHECK_SIZE, Math.max(SMALLEST_CHECK_SIZE, Math.floor(limits.maxMemory / 4)));
  const { maxClusters } = limits;
  state.layout = await readTables(file, header, { core, mostMemory, maxClusters, signal: options.signal }, findings);
}

async function lookAtContent(state: State, core: WebAssembly.Module, header: Qcow2Header): Promise<void> {
  const { file, findings, options, limits, lists } = state;
  const { codec = portableCodec, signal } = options;
  const { maxSnapshots } = limits;
  const snapshots = lists?.snapshots ?? [];
  state.disks = await readContent(file, header, snapshots, { core, codec, signal, maxSnapshots }, findings);
}

function isTooLarge(error: unknown): boolean {
  return error instanceof CorralError && error.code === 'ERR_TOO_LARGE';
}

/** Why the inspection ended before its end. */
function noteEnd({ file, findings, limits }: State, error: unknown): void {
  if (file.hit === 'limit.read') {
    findings.add('limit.read', 'More bytes would have to be read', { value: file.bytesRead, limit: limits.maxRead });
  } else if (file.hit === 'limit.time') {
    findings.add('limit.time', 'It would take longer', { limit: limits.maxTime });
  } else if (isTooLarge(file.failure)) {
    findings.add('limit.memory', 'More would have to be held or fetched than is allowed');
  } else if (file.failure !== undefined) {
    findings.add('inspect.read-error', 'The file could not be read');
  } else if (isTooLarge(error)) {
    findings.add('limit.memory', 'It would take more memory', { limit: limits.maxMemory });
  } else if (error instanceof CorralError && error.code === 'ERR_UNSUPPORTED') {
    findings.add('inspect.unsupported', 'Something in this image cannot be inspected yet');
  } else {
    findings.add('inspect.internal-error', 'The inspector made a mistake');
  }
}

function reportOf(state: State): InspectReport {
  const { policy } = state.findings;
  const { file, findings, depth, options, limits, header, lists } = state;
  const checks = findings.checks();
  const facts = header?.facts;
  return {
    schema: 'corral-inspect',
    version: REPORT_VERSION,
    input: { bytes: decimal(file.length) },
    options: { policy: policy.name, failOn: policy.failOn, depth, declared: options.declared },
    verdict: verdictOf(checks, policy.failOn, findings.hasBegun),
    format: {
      name: state.format,
      detected: state.matches.map(({ name, offset }) => ({ name, offset: decimal(offset) })),
    },
    virtualSize: state.virtualSize?.toString(),
    header: header === undefined ? undefined : headerFields(header),
    features: header === undefined ? undefined : features(header),
    extensions: (header?.extensions ?? []).map(({ name, type, offset, length }) => ({
      name: name ?? `0x${type.toString(16).padStart(8, '0')}`,
      offset: decimal(offset),
      length: decimal(length),
    })),
    references: state.references,
    chain: [],
    encryption:
      facts === undefined || facts.encryption === 'none' ? undefined : { method: facts.encryption, luks: state.luks },
    snapshotCount: lists?.snapshots.length ?? 0,
    snapshots: snapshotReports(lists?.snapshots ?? []),
    bitmapCount: lists?.bitmaps.length ?? 0,
    bitmaps: bitmapReports(lists?.bitmaps ?? []),
    layout: state.layout,
    content: state.disks,
    checks,
    limits: Object.fromEntries(Object.entries(limits).map(([name, value]) => [name, decimal(value)])),
    resources: { bytesRead: decimal(file.bytesRead), reads: decimal(file.reads) },
  };
}

function headerFields({ facts, virtualSize, snapshotsOffset }: Qcow2Header): Record<string, string> {
  const { version, clusterSize, refcountBits, l1Size, l1TableOffset } = facts;
  const { refcountTableOffset, refcountTableClusters, snapshotCount, compressionType } = facts;
  const numbers = { version, clusterSize, refcountBits, l1Size, l1TableOffset };
  const more = { refcountTableOffset, refcountTableClusters, snapshotCount, snapshotsOffset };
  const texts = Object.entries({ ...numbers, ...more }).map(([name, value]) => [name, decimal(value)]);
  return { ...Object.fromEntries(texts), virtualSize: virtualSize.toString(), compressionType };
}

function features({ facts }: Qcow2Header): NonNullable<InspectReport['features']> {
  const { incompatibleFeatures, compatibleFeatures, autoclearFeatures } = facts;
  return {
    incompatible: featureNames(incompatibleFeatures, 'incompatible'),
    compatible: featureNames(compatibleFeatures, 'compatible'),
    autoclear: featureNames(autoclearFeatures, 'autoclear'),
  };
}

function decimal(value: number): string {
  return Number.isInteger(value) ? BigInt(value).toString() : String(value);
}
