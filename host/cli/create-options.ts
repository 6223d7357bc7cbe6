/** The `-o` options of a new image, checked before anything is touched. */

import type { Preallocation } from '../preallocate.js';
import { type Format, optionList, sizeParameter, switchValue, wholeNumber } from './arguments.js';
import { CommandError } from './output.js';

const MINIMUM_CLUSTER_SIZE = 512;
const MAXIMUM_CLUSTER_SIZE = 2 * 1024 * 1024;
/** Subclusters have at least 512 bytes. */
const MINIMUM_EXTENDED_CLUSTER_SIZE = 16384;
/** Bytes of the largest L1 table that is allowed. */
const MAXIMUM_L1_LENGTH = 32n * 1024n * 1024n;
const ENTRY_SIZE = 8n;

/** What a new image will be. Sizes are bytes. */
export interface NewImage {
  readonly format: Format;
  readonly clusterSize: number;
  /** As it was asked for; undefined: version 3. */
  readonly compat: '0.10' | '1.1' | undefined;
  readonly lazyRefcounts: boolean;
  readonly refcountBits: number;
  readonly extendedL2: boolean;
  readonly compressionType: 'zlib' | 'zstd';
  /** Name of the backing file as it will be stored: relative ones begin in the new image's folder. */
  readonly backingFile: string | undefined;
  readonly backingFormat: Format | undefined;
  /** Path of the data file, as it is stored too. */
  readonly dataFile: string | undefined;
  readonly dataFileRaw: boolean;
  /** As it was asked for. */
  readonly preallocation: Preallocation | undefined;
  /** `size=`, when it was given there. */
  readonly size: bigint | undefined;
  /** The options as they were given. */
  readonly given: ReadonlyMap<string, string>;
  /** What no such image can be made for, although every option can be read. */
  readonly problem: string | undefined;
}

/** Options that QEMU knows and this program does not yet. */
const LATER = /^(encrypt(ion|\..*)|keep_data_file)$/;
/** Of the file, whatever is in it. They are hints to file systems, which may do without: nothing here follows them. */
const OF_FILE = ['nocow', 'extent_size_hint'];
const OF_QCOW2 = [
  'cluster_size',
  'compat',
  'compression_type',
  'backing_file',
  'backing_fmt',
  'data_file',
  'data_file_raw',
  'extended_l2',
  'lazy_refcounts',
  'refcount_bits',
];

/** What `-b` and `-F` say; they go before `-o`. */
export interface BackingArguments {
  readonly backing?: string | undefined;
  readonly backingFormat?: string | undefined;
}

/** Reads `-o`. Throws `CommandError` with a line that begins with `about`, also for what cannot be made. */
export function newImage(
  path: string,
  format: Format,
  lists: readonly string[],
  behind: BackingArguments = {},
  about = path === '' ? '' : `${path}: `,
): NewImage {
  const image = readNewImage(format, lists, behind, about);
  if (image.problem !== undefined) throw new CommandError(`${about}${image.problem}`);
  return image;
}

/** The same, but what cannot be made is only noted: QEMU says first what it is about to make. */
export function readNewImage(
  format: Format,
  lists: readonly string[],
  behind: BackingArguments,
  about: string,
): NewImage {
  const problems: string[] = [];
  const later = (reason: string): void => void problems.push(reason);
  const refuse = (reason: string): never => {
    throw new CommandError(`${about}${reason}`);
  };
  const options = optionList(lists);
  for (const [name, value] of options) {
    if (format === 'qcow2' && isOff(name, value)) continue;
    if (format === 'qcow2' && LATER.test(name)) refuse(`Option '${name}' is not supported yet`);
    const known = ['size', 'preallocation', ...OF_FILE, ...(format === 'qcow2' ? OF_QCOW2 : [])];
    if (!known.includes(name)) refuse(`Invalid parameter '${name}'`);
  }
  onOrOff('nocow', options.get('nocow') ?? 'off', refuse);
  sizeParameter('extent_size_hint', options.get('extent_size_hint') ?? '0', about);
  const size = options.get('size');
  const image = {
    format,
    clusterSize: clusterSize(options.get('cluster_size') ?? '64k', about, later),
    compat: compatibility(options.get('compat'), later),
    lazyRefcounts: onOrOff('lazy_refcounts', options.get('lazy_refcounts') ?? 'off', refuse),
    refcountBits: refcountBits(options.get('refcount_bits') ?? '16', refuse, later),
    extendedL2: onOrOff('extended_l2', options.get('extended_l2') ?? 'off', refuse),
    compressionType: compressionType(options.get('compression_type') ?? 'zlib', later),
    ...backingOptions(format, options, behind, { refuse, later }),
    dataFile: options.get('data_file'),
    dataFileRaw: onOrOff('data_file_raw', options.get('data_file_raw') ?? 'off', refuse),
    preallocation: preallocationMode(format, options.get('preallocation'), later),
    size: size === undefined ? undefined : sizeParameter('size', size, about),
    given: options,
  };
  checkTogether(image, later);
  return { ...image, problem: problems[0] };
}

/** What each option may be, but not all of them at once. */
function checkTogether(image: Omit<NewImage, 'problem'>, later: (reason: string) => void): void {
  const old = (what: string): void => later(`${what} compatibility level 1.1 and above (use version=v3 or greater)`);
  const { preallocation = 'off', extendedL2 } = image;
  if (image.compat === '0.10') {
    if (image.refcountBits !== 16) {
      later(
        'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
      );
    }
    if (image.lazyRefcounts) old('Lazy refcounts only supported with');
    if (image.compressionType !== 'zlib') old('Non-zlib compression type is only supported with');
    if (image.dataFile !== undefined) old('External data files are only supported with');
    if (extendedL2) old('Extended L2 entries are only supported with');
  }
  if (image.dataFileRaw && image.backingFile !== undefined) {
    later('Backing file and data-file-raw cannot be used at the same time');
  }
  if (image.dataFileRaw && image.dataFile === undefined) later('data-file-raw requires data-file');
  if (extendedL2 && image.clusterSize < MINIMUM_EXTENDED_CLUSTER_SIZE) {
    later(
      `Extended L2 entries are only supported with cluster sizes of at least ${MINIMUM_EXTENDED_CLUSTER_SIZE} bytes`,
    );
  }
  if (image.backingFile !== undefined && preallocation !== 'off' && !extendedL2) {
    later('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  }
}

/** Refuses a size that the L1 table could not cover. */
export function checkSize(path: string, image: NewImage, size: bigint): void {
  if (image.format === 'raw') {
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new CommandError(`${path}: The image size is too large`);
    return;
  }
  const cluster = BigInt(image.clusterSize);
  const entries = cluster / (image.extendedL2 ? ENTRY_SIZE * 2n : ENTRY_SIZE);
  if (size > (MAXIMUM_L1_LENGTH / ENTRY_SIZE) * entries * cluster) {
    const hint = image.clusterSize < MAXIMUM_CLUSTER_SIZE ? ' (try using a larger cluster size)' : '';
    throw new CommandError(`${path}: The image size is too large for file format 'qcow2'${hint}`);
  }
}

/** QEMU's line about a new image. */
export function formattingLine(path: string, image: NewImage, size: bigint): string {
  const { format, given } = image;
  const optional = (name: string, value = given.get(name)): string =>
    value === undefined ? '' : ` ${name}=${value.replaceAll(',', ',,')}`;
  const hint = given.get('extent_size_hint');
  const ofFile = hint === undefined ? '' : ` extent_size_hint=${sizeParameter('extent_size_hint', hint)}`;
  const start = `Formatting '${path}', fmt=${format}`;
  if (format === 'raw') return `${start} size=${size}${optional('nocow')}${optional('preallocation')}${ofFile}\n`;
  const { clusterSize: cluster, backingFile, backingFormat } = image;
  return (
    `${start}${optional('encryption')} cluster_size=${cluster} extended_l2=${given.get('extended_l2') ?? 'off'}` +
    `${optional('preallocation')} compression_type=${given.get('compression_type') ?? 'zlib'} size=${size}` +
    `${optional('compat')}${optional('backing_file', backingFile)}${optional('backing_fmt', backingFormat)}` +
    `${optional('data_file')}${optional('data_file_raw')} lazy_refcounts=${given.get('lazy_refcounts') ?? 'off'} ` +
    `refcount_bits=${image.refcountBits}${optional('nocow')}${ofFile}\n`
  );
}

type Refuse = (reason: string) => never;
type Later = (reason: string) => void;

function backingOptions(
  format: Format,
  options: ReadonlyMap<string, string>,
  behind: BackingArguments,
  { refuse, later }: { refuse: Refuse; later: Later },
): Pick<NewImage, 'backingFile' | 'backingFormat'> {
  const backingFile = behind.backing ?? options.get('backing_file');
  const given = behind.backingFormat ?? options.get('backing_fmt');
  if (backingFile !== undefined && format === 'raw') refuse("Backing file not supported for file format 'raw'");
  if (given !== undefined && format === 'raw') refuse("Backing file format not supported for file format 'raw'");
  if (backingFile === undefined && given !== undefined) later('Backing format cannot be used without backing file');
  const known = given === undefined || given === 'raw' || given === 'qcow2';
  if (!known) later(`Parameter 'backing-fmt' does not accept value '${given}'`);
  return { backingFile, backingFormat: known ? given : undefined };
}

function preallocationMode(format: Format, text: string | undefined, later: Later): Preallocation | undefined {
  if (text === undefined || text === 'off' || text === 'falloc' || text === 'full') return text;
  if (text !== 'metadata' && format === 'raw') later(`invalid parameter value: ${text}`);
  else if (text !== 'metadata') later(`Parameter 'preallocation' does not accept value '${text}'`);
  else if (format === 'raw') later('Unsupported preallocation mode: metadata');
  else return text;
  return undefined;
}

function compressionType(text: string, later: Later): NewImage['compressionType'] {
  if (text === 'zlib' || text === 'zstd') return text;
  later(`Parameter 'compression-type' does not accept value '${text}'`);
  return 'zlib';
}

/** A later option that asks for what is there anyway. */
function isOff(name: string, value: string): boolean {
  return name === 'encryption' && value === 'off';
}

function clusterSize(text: string, about: string, later: Later): number {
  const size = Number(sizeParameter('cluster_size', text, about));
  if (size < MINIMUM_CLUSTER_SIZE || size > MAXIMUM_CLUSTER_SIZE || !Number.isInteger(Math.log2(size))) {
    later('Cluster size must be a power of two between 512 and 2048k');
  }
  return size;
}

function compatibility(text: string | undefined, later: Later): NewImage['compat'] {
  if (text === undefined || text === '0.10' || text === '1.1') return text;
  if (text === 'v2') return '0.10';
  if (text !== 'v3') later(`Parameter 'version' does not accept value '${text}'`);
  return '1.1';
}

function onOrOff(name: string, text: string, refuse: Refuse): boolean {
  return switchValue(text) ?? refuse(`Parameter '${name}' expects 'on' or 'off'`);
}

function refcountBits(text: string, refuse: Refuse, later: Later): number {
  const bits = wholeNumber(text) ?? refuse("Parameter 'refcount_bits' expects a number");
  if (bits <= 0 || bits > 64 || !Number.isInteger(Math.log2(bits))) {
    later('Refcount width must be a power of two and may not exceed 64 bits');
  }
  return bits;
}
