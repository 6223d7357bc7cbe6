/** The header of a qcow2 image, as the core reads it: nothing is opened that it names. */

import type { ImageInfoView } from '../abi.js';
import { Field } from '../abi.js';
import type { CoreInstance } from '../core-instance.js';
import { Engine } from '../engine.js';
import { CorralError } from '../errors.js';
import { viewOf } from '../filesystem/reader.js';
import { type ImageFacts, readFacts } from '../image-facts.js';
import { openRequest } from '../open-options.js';
import { allowedPath } from './allowed.js';
import type { Findings } from './findings.js';
import { FORMAT_NAMES } from './formats.js';
import type { MeteredFile } from './metered-file.js';
import { judgeReference, type Reference } from './names.js';
import type { RuleId } from './rules.js';

/** Bytes of the first cluster that are looked at, at most: those that the core has looked at. */
const PAGE = 65536;
const KNOWN_COMPATIBLE = 1n;
const KNOWN_AUTOCLEAR = 3n;
/** Features by their bits. */
const FEATURES = {
  incompatible: ['dirty', 'corrupt', 'data-file', 'compression-type', 'extended-l2'],
  compatible: ['lazy-refcounts'],
  autoclear: ['bitmaps', 'raw-data-file'],
} as const;
const EXTENSION_NAMES: Readonly<Record<number, string>> = {
  3799591626: 'backing-format',
  1745090647: 'feature-names',
  595929205: 'bitmaps',
  87539319: 'encryption-header',
  1145132097: 'data-file',
};
const BACKING_FORMAT = 0xe2792aca;
const BITMAPS = 0x23852875;
const DATA_FILE = 0x44415441;
const ENCRYPTION_HEADER = 0x0537be77;

/** A header extension: bytes of the file behind its own header. */
export interface Extension {
  readonly type: number;
  /** Undefined for an unknown type. */
  readonly name: string | undefined;
  readonly offset: number;
  readonly length: number;
}

/** What is known of an image whose header is possible. */
export interface Qcow2Header {
  readonly facts: ImageFacts;
  /** The size of the disk as it stands in the header. */
  readonly virtualSize: bigint;
  readonly extensions: readonly Extension[];
  readonly references: readonly Reference[];
  /** Where the LUKS header lies. */
  readonly encryption: { readonly offset: number; readonly length: number } | undefined;
  /** Bytes that the image's tables begin with. */
  readonly snapshotsOffset: number;
  /** Stale: a writer that did not know them changed the image. Damaged: their extension makes no sense. */
  readonly bitmaps: 'none' | 'listed' | 'stale' | 'damaged';
}

/** What the core's refusal of a header means. */
const FIELD_RULES: Readonly<Record<number, RuleId>> = {
  [Field.Magic]: 'header.truncated',
  [Field.Version]: 'header.version',
  [Field.Truncated]: 'header.truncated',
  [Field.ClusterBits]: 'hdr.cluster-bits',
  [Field.ExtendedL2]: 'hdr.subcluster-size',
  [Field.HeaderLength]: 'hdr.length',
  [Field.RefcountOrder]: 'hdr.refcount-order',
  [Field.CryptMethod]: 'hdr.crypt-method',
  [Field.BackingFileLength]: 'ref.name-position',
  [Field.BackingFileOffset]: 'ref.name-position',
  [Field.Size]: 'hdr.l1-size',
  [Field.L1Size]: 'hdr.l1-size',
  [Field.L1TableOffset]: 'hdr.l1-offset',
  [Field.RefcountTableOffset]: 'hdr.reftable',
  [Field.RefcountTableClusters]: 'hdr.reftable',
  [Field.SnapshotCount]: 'hdr.snapshot-table',
  [Field.SnapshotsOffset]: 'hdr.snapshot-table',
  [Field.ExtensionLength]: 'hdr.extension-length',
  [Field.IncompatibleFeatures]: 'hdr.unknown-incompatible',
  [Field.CompressionType]: 'hdr.compression-type',
};

interface Opened {
  readonly engine: Engine;
  readonly facts: ImageFacts;
  /** The start of the file, as far as the core has looked at it. */
  readonly page: Uint8Array;
  readonly snapshotsOffset: number;
  readonly bitmaps: number;
}

/**
 * Lets the core read the header. Undefined, and a finding, when it refuses: nothing that the header says can be relied
 * upon then. The engine answers `SnapshotList` and `BitmapList`.
 */
export async function readQcow2Header(
  file: MeteredFile,
  core: WebAssembly.Module,
  findings: Findings,
): Promise<{ engine: Engine; header: Qcow2Header } | undefined> {
  const opened = await openHeader(file, core, findings);
  if (opened === undefined) return undefined;
  const { engine, facts, page, snapshotsOffset, bitmaps } = opened;
  const virtualSize = viewOf(page).getBigUint64(24);
  const extensions = readExtensions(findings, page, facts);
  judgeSnapshotsOffset(findings, facts, page);
  judgeFeatures(findings, facts);
  judgeExtensions(findings, extensions);
  if ((virtualSize & 511n) !== 0n) {
    findings.add('hdr.size-alignment', 'The disk does not end with a sector', { offset: 24, value: virtualSize });
  }
  const references = judgeReferences(findings, facts, page, extensions);
  const encryption = encryptionHeader(findings, facts, page, extensions);
  const found = { facts, virtualSize, extensions, references, encryption, snapshotsOffset };
  return { engine, header: { ...found, bitmaps: bitmapState(bitmaps, extensions) } };
}

async function openHeader(
  file: MeteredFile,
  core: WebAssembly.Module,
  findings: Findings,
): Promise<Opened | undefined> {
  const engine = await Engine.start(file, { core, requestCapacity: 1, cacheSize: 0, checkSize: 0 });
  const request = openRequest({ core, inspect: true }, false);
  try {
    return await engine.run({ ...request, collect: (instance: CoreInstance) => collect(engine, instance) });
  } catch (error) {
    noteRefusal(findings, error);
    return undefined;
  }
}

function collect(engine: Engine, instance: CoreInstance): Opened {
  const info: ImageInfoView = instance.info;
  const facts = readFacts(instance);
  const length = Math.min(PAGE, facts.clusterSize, facts.fileLength);
  const page = instance.bytes(instance.layout.page, length).slice();
  return { engine, facts, page, snapshotsOffset: info.snapshotsOffset, bitmaps: info.hasBitmaps };
}

/** What the core says of a header that it refuses. Rejects with what is not about the header. */
function noteRefusal(findings: Findings, error: unknown): void {
  const code = error instanceof CorralError ? error.code : undefined;
  if (code === undefined || code === 'ERR_IO' || code === 'ERR_CANCELLED') throw error;
  const { fieldCode, hostOffset, found, limit, reason } = (error as CorralError).details;
  const numbers = { offset: hostOffset, value: found, limit };
  if (code === 'ERR_TOO_LARGE') {
    findings.add('limit.memory', reason ?? 'The header is longer than there is memory for', numbers);
    return;
  }
  const id = FIELD_RULES[fieldCode ?? Field.None];
  findings.add(id ?? 'inspect.internal-error', messageOf(id), numbers);
}

function messageOf(id: RuleId | undefined): string {
  return id === undefined ? 'The header was refused for an unknown reason' : `The header is refused: ${id}`;
}

/** The core has looked at all lengths: every extension lies in the page. */
function readExtensions(findings: Findings, page: Uint8Array, facts: ImageFacts): Extension[] {
  const view = viewOf(page);
  const start = facts.version === 2 ? 72 : view.getUint32(100);
  const nameOffset = Number(view.getBigUint64(8));
  const end = nameOffset === 0 ? page.length : Math.min(page.length, nameOffset);
  const extensions: Extension[] = [];
  for (let at = start; at + 8 <= end; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    // The core takes no notice of what follows the end; QEMU refuses an end that says that it is long.
    if (at + 8 + length > end) {
      const numbers = { offset: at + 4, value: length, limit: end - at - 8 };
      findings.add('hdr.extension-length', 'A header extension is longer than its place', numbers);
    }
    if (type === 0 || at + 8 + length > end) break;
    extensions.push({ type, name: EXTENSION_NAMES[type], offset: at + 8, length });
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return extensions;
}

/** Without snapshots nobody needs the table's place; QEMU refuses one that makes no sense all the same. */
function judgeSnapshotsOffset(findings: Findings, facts: ImageFacts, page: Uint8Array): void {
  const offset = viewOf(page).getBigUint64(64);
  if (offset % BigInt(facts.clusterSize) === 0n && offset < 2n ** 63n) return;
  findings.add('hdr.snapshot-table', 'The snapshot table is where it cannot be', { offset: 64, value: offset });
}

function judgeFeatures(findings: Findings, facts: ImageFacts): void {
  const { incompatibleFeatures, compatibleFeatures, autoclearFeatures } = facts;
  const known = { offset: 72, value: incompatibleFeatures };
  if (facts.dirty) findings.add('hdr.dirty', 'The image was not closed', known);
  if (facts.corrupt) findings.add('hdr.corrupt', 'The image is marked as corrupt', known);
  if (incompatibleFeatures >> 2n !== 0n) {
    findings.add('hdr.known-incompatible', 'The image has features that old programs refuse', known);
  }
  const compatible = compatibleFeatures & ~KNOWN_COMPATIBLE;
  if (compatible !== 0n) {
    findings.add('hdr.unknown-compatible', 'Unknown compatible features', { offset: 80, value: compatible });
  }
  if (facts.dataFileRaw && !facts.hasDataFile) {
    const numbers = { offset: 88, value: autoclearFeatures };
    findings.add('hdr.raw-without-data-file', 'A data file is said to be raw, and there is none', numbers);
  }
  const autoclear = autoclearFeatures & ~KNOWN_AUTOCLEAR;
  if (autoclear !== 0n) {
    findings.add('hdr.unknown-autoclear', 'Unknown autoclear features', { offset: 88, value: autoclear });
  }
}

function judgeExtensions(findings: Findings, extensions: readonly Extension[]): void {
  const seen = new Set<number>();
  for (const { type, name, offset, length } of extensions) {
    const numbers = { offset, length, value: type };
    if (seen.has(type)) findings.add('hdr.extension-duplicate', 'A header extension is there twice', numbers);
    if (name === undefined) findings.add('hdr.extension-unknown', 'An unknown header extension', numbers);
    seen.add(type);
  }
}

function judgeReferences(
  findings: Findings,
  facts: ImageFacts,
  page: Uint8Array,
  extensions: readonly Extension[],
): Reference[] {
  const bytesOf = (type: number): Uint8Array | undefined => {
    const found = extensions.find((extension) => extension.type === type);
    return found === undefined ? undefined : page.subarray(found.offset, found.offset + found.length);
  };
  const references: Reference[] = [];
  const view = viewOf(page);
  const backing = { offset: Number(view.getBigUint64(8)), length: view.getUint32(16) };
  if (backing.offset !== 0) {
    const name = page.subarray(backing.offset, backing.offset + backing.length);
    const format = bytesOf(BACKING_FORMAT);
    // A file whose format is not told would be probed.
    const followed = isFormat(format) && isAllowed(findings, 'backing-file', name);
    if (!followed) findings.add('ref.backing-file', 'The image names a backing file', backing);
    if (format === undefined) {
      findings.add('ref.backing-format-missing', 'The format of the backing file is not told', backing);
    }
    references.push(judgeReference(findings, 'backing-file', name, backing, { format, followed }));
  }
  const data = extensions.find(({ type }) => type === DATA_FILE);
  if (facts.hasDataFile || data !== undefined) {
    const place = { offset: data?.offset ?? 72, length: data?.length ?? 0 };
    const name = bytesOf(DATA_FILE);
    const followed = facts.hasDataFile && isAllowed(findings, 'data-file', name);
    if (!followed) findings.add('ref.data-file', 'The disk lies in another file', place);
    if (data === undefined) findings.add('ref.data-file-name-missing', 'The data file has no name', place);
    if (facts.dataFileRaw) findings.add('ref.data-file-raw', 'The data file is a raw disk', { offset: 88 });
    references.push(judgeReference(findings, 'data-file', name, place, { followed }));
  }
  return references;
}

function isFormat(format: Uint8Array | undefined): boolean {
  return format !== undefined && FORMAT_NAMES.some((name) => name === new TextDecoder().decode(format.slice()));
}

function isAllowed({ allowed }: Findings, kind: 'backing-file' | 'data-file', name: Uint8Array | undefined): boolean {
  return allowed !== undefined && name !== undefined && allowedPath(kind, name, allowed) !== undefined;
}

function encryptionHeader(
  findings: Findings,
  facts: ImageFacts,
  page: Uint8Array,
  extensions: readonly Extension[],
): Qcow2Header['encryption'] {
  if (facts.encryption === 'none') return undefined;
  findings.add('crypt.present', 'The disk is encrypted', { offset: 32 });
  if (facts.encryption === 'aes') {
    findings.add('crypt.legacy-aes', 'The disk is encrypted in the old way', { offset: 32 });
    return undefined;
  }
  const extension = extensions.find(({ type }) => type === ENCRYPTION_HEADER);
  if (extension === undefined || extension.length !== 16) {
    findings.add('crypt.luks-header', 'The place of the LUKS header is not told', { offset: extension?.offset ?? 32 });
    return undefined;
  }
  const view = viewOf(page);
  const place = {
    offset: Number(view.getBigUint64(extension.offset)),
    length: Number(view.getBigUint64(extension.offset + 8)),
  };
  const inside = place.offset % facts.clusterSize === 0 && place.offset + place.length <= facts.fileLength;
  if (inside && place.offset > 0) return place;
  const numbers = { ...place, limit: facts.fileLength };
  findings.add('crypt.luks-header', 'The LUKS header is not within the file', numbers);
  return undefined;
}

function bitmapState(bits: number, extensions: readonly Extension[]): Qcow2Header['bitmaps'] {
  if ((bits & 2) !== 0) return 'stale';
  if ((bits & 1) !== 0) return 'listed';
  // The core does without bitmaps that make no sense when it only looks.
  return extensions.some(({ type }) => type === BITMAPS) ? 'damaged' : 'none';
}

/** Names of the features that are set in one of the three fields, and what else is set there. */
export function featureNames(bits: bigint, kind: keyof typeof FEATURES): { known: string[]; unknownBits: string } {
  const names = FEATURES[kind];
  const known = names.filter((_, bit) => ((bits >> BigInt(bit)) & 1n) !== 0n);
  return { known, unknownBits: ((bits >> BigInt(names.length)) << BigInt(names.length)).toString() };
}
