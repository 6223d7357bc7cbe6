/** `corral info`: what an image's header says. Works whatever features the image has, and follows none of its names. */

import { fstatSync } from 'node:fs';
import type { BitmapFacts } from '../../bitmaps.js';
import type { ImageFacts } from '../../image-facts.js';
import type { Snapshot } from '../../snapshot-record.js';
import type { Format } from '../arguments.js';
import { cacheReport } from '../cache-report.js';
import { cacheOption, FORCE_SHARE, IMAGE, OUTPUT } from '../common-options.js';
import { withFaults } from '../faults.js';
import { type ImageName, readImageName } from '../image-name.js';
import { isJsonName } from '../node-options.js';
import { cannotOpen, isUrl, type OpenedFile, openFile, openImageIn, probeFormat } from '../open.js';
import { flag } from '../option-table.js';
import { CommandError, escapeText, formatJson, humanSize, type Json } from '../output.js';
import { windowIn } from '../raw-window.js';
import { snapshotFact, snapshotTable } from '../snapshot-text.js';
import { defineVerb, oneOperand } from '../verb.js';

const SECTOR = 512;

interface Options {
  forceShare: boolean;
  backingChain: boolean;
  statistics: boolean;
}

/** A file to look at. */
type Named = Pick<ImageName, 'path' | 'format' | 'faults'> &
  Partial<Pick<ImageName, 'text' | 'locked' | 'generic' | 'settings' | 'window'>>;

/** What is printed. Numbers are bytes. */
interface Facts {
  readonly path: string;
  /** What the error injector on the file is called; undefined: there is none. */
  readonly injector: string | undefined;
  /** The raw disk, when it is a part of the file. */
  readonly part: { readonly name: string; readonly size: number } | undefined;
  /** The same for one file under several names. */
  readonly identity: string;
  /** Length of the file in whole sectors, as QEMU counts. */
  readonly fileLength: number;
  /** Undefined on a server. */
  readonly diskSize: number | undefined;
  /** Undefined for a raw file. */
  readonly image: ImageFacts | undefined;
  /** Persistent bitmaps. */
  readonly bitmaps: readonly BitmapFacts[];
  /** Internal snapshots. */
  readonly snapshots: readonly Snapshot[];
  /** What the metadata cache would do, when that was asked for. */
  readonly cache?: Record<string, Json> | undefined;
}

export const info = defineVerb({
  about: 'Prints what the header of an image says. Nothing that it names is opened, but with --backing-chain.',
  operands: 'FILE',
  options: {
    ...IMAGE,
    ...OUTPUT,
    backingChain: flag('-b, --backing-chain', 'the files behind the image, too'),
    statistics: flag('--statistics', 'what the metadata cache would do: reads all mappings of the disk'),
    ...FORCE_SHARE,
    // Newer versions of QEMU have it.
    cache: cacheOption('-t, --cache CACHE'),
  },
  async run({ values, operands }, { terminal }) {
    const name = readImageName(oneOperand(operands), values);
    refuseOthers(name);
    const chain = await readChain(name, values);
    const [first] = chain as [Facts];
    const json = (): Json => (values.backingChain ? chain.map(jsonFacts) : jsonFacts(first));
    terminal.print(values.output === 'json' ? `${formatJson(json())}\n` : chain.map(humanFacts).join('\n'));
  },
});

/** As by QEMU: nothing is opened here that other files could be put in the place of. */
function refuseOthers({ text, backing }: ImageName): void {
  if (backing === undefined || backing === null) return;
  throw new CommandError(
    `Could not open '${text}': Block format 'qcow2' does not support the option '${backing.option}'`,
  );
}

/** The facts of the image, and of what lies behind it when that is asked for. */
async function readChain(name: ImageName, options: Options): Promise<Facts[]> {
  const chain: Facts[] = [];
  const seen = new Set<string>();
  let next: Named | undefined = name;
  while (next !== undefined) {
    const facts: Facts = await readFacts(next, options);
    if (seen.has(facts.identity)) throw new CommandError(`Backing file '${next.path}' creates an infinite loop.`);
    seen.add(facts.identity);
    chain.push(facts);
    next = options.backingChain ? behind(facts) : undefined;
  }
  return chain;
}

function behind({ path, image }: Facts): Named | undefined {
  if (image?.backingFile === undefined) return undefined;
  if (isUrl(path)) {
    throw new CommandError(`The image is on a server: its backing file, '${image.backingFile}', is not opened`);
  }
  if (hasProtocol(image.backingFile)) {
    throw new CommandError(
      `Could not open '${image.backingFile}': only files can be opened, and this names a protocol`,
    );
  }
  const { backingFormat: format } = image;
  const actual = actualPath(path, image.backingFile);
  if (format === undefined || format === 'qcow2' || format === 'raw') return { path: actual, format };
  throw new CommandError(`Could not open '${actual}': Unknown driver '${format}'`);
}

async function readFacts(named: Named, options: Options): Promise<Facts> {
  const { path, format: wanted, text, locked, generic, settings } = named;
  const naming = text === undefined ? {} : { name: text };
  const forceShare = options.forceShare || generic?.forceShare === true;
  const file = await openFile(path, { forceShare, locked, ...naming });
  const { format, fileLength, diskSize } = await measure(file, wanted).catch(async (error: unknown) => {
    await file.close();
    throw cannotOpen(path, error);
  });
  const whole = { path: plainPath(path), fileLength, diskSize, image: undefined, bitmaps: [], snapshots: [] };
  const { identity } = file;
  const injector = named.faults?.name;
  if (format === 'raw') {
    await file.close();
    return { ...whole, injector, identity, part: partOf(named, fileLength) };
  }
  await using image = await openImageIn(withFaults(file, named, format), path, {
    inspect: true,
    ...settings,
    requestCapacity: 1,
    cacheSize: 0,
    ...naming,
  });
  try {
    const [bitmaps, snapshots] = [await image.bitmaps.list(), await image.snapshots.list()];
    const cache = options.statistics ? await cacheReport(path, options) : undefined;
    return { ...whole, injector, identity, part: undefined, image: image.info, bitmaps, snapshots, cache };
  } catch (error) {
    throw cannotOpen(path, error);
  }
}

/** As QEMU writes it: no part before a colon can be taken for a protocol. */
function plainPath(path: string): string {
  return /^[^/]*:/.test(path) && !isUrl(path) ? `./${path}` : path;
}

/** A part of a file is called by all of its options, in QEMU's order. */
function partOf({ text = '', path, window }: Named, fileLength: number): Facts['part'] {
  if (window === undefined) return undefined;
  const value = (given: string): string => (isJsonName(text) ? given : JSON.stringify(given));
  const [offset, size] = ['offset', 'size'].map((name) => {
    const given = window.given.get(name);
    return given === undefined ? '' : `"${name}": ${value(given)}, `;
  });
  const file = `"file": {"driver": "file", "filename": ${JSON.stringify(path)}}`;
  try {
    return { name: `json:{${offset}"driver": "raw", ${size}${file}}`, size: windowIn(window, fileLength).size };
  } catch (error) {
    throw error instanceof CommandError ? new CommandError(`Could not open '${text}': ${error.message}`) : error;
  }
}

interface Measured {
  format: Format;
  fileLength: number;
  diskSize: number | undefined;
}

async function measure(file: OpenedFile, wanted: Format | undefined): Promise<Measured> {
  const format = wanted ?? (await probeFormat(file));
  const fileLength = Math.ceil((await file.size()) / SECTOR) * SECTOR;
  return {
    format,
    fileLength,
    diskSize: 'descriptor' in file ? fstatSync(file.descriptor).blocks * SECTOR : undefined,
  };
}

/** The same facts under QEMU's keys. */
function jsonFacts(facts: Facts): Json {
  const { path, injector, part, fileLength, diskSize, image, bitmaps, snapshots, cache } = facts;
  return {
    children: [{ name: 'file', info: jsonInjectorFacts(facts) ?? jsonFileFacts(facts) }],
    'backing-filename-format': image?.backingFormat,
    snapshots: snapshots.length === 0 ? undefined : snapshots.map(snapshotFact),
    'virtual-size': image?.virtualSize ?? part?.size ?? fileLength,
    filename: part?.name ?? injector ?? path,
    'cluster-size': image?.clusterSize,
    format: image === undefined ? 'raw' : 'qcow2',
    'actual-size': injector === undefined ? diskSize : undefined,
    encrypted: image !== undefined && image.encryption !== 'none' ? true : undefined,
    'format-specific':
      image === undefined ? undefined : { type: 'qcow2', data: Object.fromEntries(specificFacts(image, bitmaps)) },
    'full-backing-filename': image?.backingFile === undefined ? undefined : actualPath(path, image.backingFile),
    'backing-filename': image?.backingFile,
    'dirty-flag': image?.dirty ?? false,
    'metadata-cache': cache,
  };
}

function jsonFileFacts({ path, fileLength, diskSize }: Facts): Json {
  return {
    children: [],
    'virtual-size': fileLength,
    filename: path,
    format: isUrl(path) ? path.slice(0, path.indexOf(':')).toLowerCase() : 'file',
    'actual-size': diskSize,
    'format-specific': isUrl(path) ? undefined : { type: 'file', data: {} },
    'dirty-flag': false,
  };
}

/** Undefined where there is none. */
function jsonInjectorFacts(facts: Facts): Json | undefined {
  const { injector, fileLength } = facts;
  if (injector === undefined) return undefined;
  return {
    children: [{ name: 'image', info: jsonFileFacts(facts) }],
    'virtual-size': fileLength,
    filename: injector,
    format: 'blkdebug',
    'dirty-flag': false,
  };
}

/** What is said of qcow2 images only, in QEMU's order. */
function specificFacts(image: ImageFacts, bitmaps: readonly BitmapFacts[]): [key: string, value: Json][] {
  const facts: [string, Json | undefined][] = [
    ['compat', image.version === 2 ? '0.10' : '1.1'],
    ['compression-type', image.compressionType],
    ['lazy-refcounts', image.version === 2 ? undefined : image.lazyRefcounts],
    ['bitmaps', bitmaps.length === 0 ? undefined : bitmaps.map(bitmapFact)],
    ['refcount-bits', image.refcountBits],
    ['encrypt', image.encryption === 'none' ? undefined : { format: image.encryption }],
    ['data-file', image.dataFile],
    ['data-file-raw', image.hasDataFile ? image.dataFileRaw : undefined],
    ['corrupt', image.version === 2 ? undefined : image.corrupt],
    ['extended-l2', image.version === 2 ? undefined : image.extendedL2],
  ];
  return facts.filter((fact): fact is [string, Json] => fact[1] !== undefined);
}

function bitmapFact({ name, granularity, enabled, inconsistent }: BitmapFacts): Json {
  return { flags: [...(inconsistent ? ['in-use'] : []), ...(enabled ? ['auto'] : [])], name, granularity };
}

function humanFacts(facts: Facts): string {
  const { path, injector, part, fileLength, diskSize, image, bitmaps, snapshots, cache } = facts;
  const size = image?.virtualSize ?? part?.size ?? fileLength;
  const name = escapeText(injector ?? path);
  const lines = [
    `image: ${part === undefined ? name : escapeText(part.name)}`,
    `file format: ${image === undefined ? 'raw' : 'qcow2'}`,
    `virtual size: ${sizeText(size)}`,
    `disk size: ${spaceText(injector === undefined ? diskSize : undefined)}`,
  ];
  if (image !== undefined) lines.push(...humanImageFacts(path, image, bitmaps, snapshots));
  if (cache !== undefined) lines.push(...humanFact('Metadata cache', cache, ''));
  if (injector === undefined) lines.push(...humanFileFacts('/file', facts));
  else {
    const nested = humanFileFacts('/file/image', facts).map((line) => `    ${line}`);
    lines.push("Child node '/file':", `    image: ${name}`, '    file format: blkdebug');
    lines.push(`    virtual size: ${sizeText(fileLength)}`, `    disk size: ${spaceText(undefined)}`, ...nested);
  }
  return `${lines.join('\n')}\n`;
}

function humanFileFacts(node: string, { path, fileLength, diskSize }: Facts): string[] {
  return [
    `Child node '${node}':`,
    `    filename: ${escapeText(path)}`,
    '    protocol type: file',
    `    file length: ${sizeText(fileLength)}`,
    `    disk size: ${spaceText(diskSize)}`,
  ];
}

function humanImageFacts(
  path: string,
  image: ImageFacts,
  bitmaps: readonly BitmapFacts[],
  snapshots: readonly Snapshot[],
): string[] {
  const lines: string[] = [];
  if (image.encryption !== 'none') lines.push('encrypted: yes');
  lines.push(`cluster_size: ${image.clusterSize}`);
  if (image.dirty) lines.push('cleanly shut down: no');
  if (image.backingFile !== undefined) {
    const actual = actualPath(path, image.backingFile);
    const where = actual === image.backingFile ? '' : ` (actual path: ${escapeText(actual)})`;
    lines.push(`backing file: ${escapeText(image.backingFile)}${where}`);
    if (image.backingFormat !== undefined) lines.push(`backing file format: ${escapeText(image.backingFormat)}`);
  }
  if (snapshots.length > 0) lines.push(snapshotTable(snapshots).trimEnd());
  lines.push('Format specific information:');
  for (const [key, value] of specificFacts(image, bitmaps))
    lines.push(...humanFact(key.replaceAll('-', ' '), value, '    '));
  return lines;
}

/** A value in one line; members and elements in lines of their own, further to the right. */
function humanFact(name: string, value: Json, indent: string): string[] {
  if (typeof value !== 'object') return [`${indent}${name}: ${escapeText(String(value))}`];
  const list = Array.isArray(value);
  const members = Object.entries(value).flatMap(([key, inner]) =>
    inner === undefined ? [] : humanFact(list ? `[${key}]` : key, inner, `${indent}    `),
  );
  return [`${indent}${name}:`, ...members];
}

function sizeText(bytes: number): string {
  return `${humanSize(bytes)} (${BigInt(bytes)} bytes)`;
}

function spaceText(diskSize: number | undefined): string {
  return diskSize === undefined ? 'unavailable' : humanSize(diskSize);
}

/** Where QEMU would look for a backing file: names without a protocol are relative to the image's folder. */
function actualPath(path: string, backingFile: string): string {
  if (backingFile.startsWith('/') || hasProtocol(backingFile)) return backingFile;
  return path.slice(0, path.lastIndexOf('/') + 1) + backingFile;
}

/** "nbd:…", "json:…": a colon before any slash. */
function hasProtocol(name: string): boolean {
  return /^[^/]*:/.test(name);
}
