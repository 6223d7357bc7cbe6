/** The `-o` options of a new image, checked before anything is touched. */

import type { Preallocation } from '../preallocate.js';
import { type Format, optionList, parseSize, SizeError, sizeArgument } from './arguments.js';
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
  /** Path of the data file, as it is stored too. */
  /** Name of the backing file as it will be stored: relative ones begin in the new image's folder. */
  readonly backingFile: string | undefined;
  readonly backingFormat: Format | undefined;
  readonly dataFile: string | undefined;
  readonly dataFileRaw: boolean;
  /** As it was asked for. */
  readonly preallocation: Preallocation | undefined;
  /** `size=`, when it was given there. */
  readonly size: bigint | undefined;
}

/** Options that QEMU knows and this program does not yet. */
const LATER = /^(encrypt(ion|\..*)|keep_data_file)$/;
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

/** Reads `-o`. Throws `CommandError` with a line that begins with `about`. */
export function newImage(
  path: string,
  format: Format,
  lists: readonly string[],
  behind: BackingArguments = {},
  about = path === '' ? '' : `${path}: `,
): NewImage {
  const refuse = (reason: string): never => {
    throw new CommandError(`${about}${reason}`);
  };
  const options = optionList(lists);
  for (const [name, value] of options) {
    if (format === 'qcow2' && isOff(name, value)) options.delete(name);
    else if (format === 'qcow2' && LATER.test(name)) refuse(`Option '${name}' is not supported yet`);
    else if (name !== 'size' && name !== 'preallocation' && !(format === 'qcow2' && OF_QCOW2.includes(name))) {
      refuse(`Invalid parameter '${name}'`);
    }
  }
  const size = options.get('size');
  const image: NewImage = {
    format,
    clusterSize: clusterSize(options.get('cluster_size') ?? '64k', refuse),
    compat: compatibility(options.get('compat'), refuse),
    lazyRefcounts: onOrOff('lazy_refcounts', options.get('lazy_refcounts') ?? 'off', refuse),
    refcountBits: refcountBits(options.get('refcount_bits') ?? '16', refuse),
    extendedL2: onOrOff('extended_l2', options.get('extended_l2') ?? 'off', refuse),
    compressionType: compressionType(options.get('compression_type') ?? 'zlib', refuse),
    ...backingOptions(format, options, behind, refuse),
    dataFile: options.get('data_file'),
    dataFileRaw: onOrOff('data_file_raw', options.get('data_file_raw') ?? 'off', refuse),
    preallocation: preallocationMode(format, options.get('preallocation'), refuse),
    size: size === undefined ? undefined : sizeArgument(size, 'image size'),
  };
  if (image.compat === '0.10' && image.refcountBits !== 16) {
    refuse(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
    );
  }
  if (image.compat === '0.10' && image.lazyRefcounts) {
    refuse('Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)');
  }
  if (image.compat === '0.10' && image.compressionType !== 'zlib') {
    refuse(
      'Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    );
  }
  if (image.dataFile !== undefined && image.compat === '0.10') {
    refuse('External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)');
  }
  if (image.dataFileRaw && image.dataFile === undefined) refuse('data-file-raw requires data-file');
  if (image.extendedL2) checkExtended(image, refuse);
  const { preallocation = 'off' } = image;
  if (image.backingFile !== undefined && preallocation !== 'off' && !image.extendedL2) {
    refuse('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  }
  return image;
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
  const { format, clusterSize: cluster, compat, preallocation } = image;
  const optional = (name: string, value: string | undefined): string =>
    value === undefined ? '' : ` ${name}=${value}`;
  const start = `Formatting '${path}', fmt=${format}`;
  if (format === 'raw') return `${start} size=${size}${optional('preallocation', preallocation)}\n`;
  return (
    `${start} cluster_size=${cluster} extended_l2=${image.extendedL2 ? 'on' : 'off'}${optional('preallocation', preallocation)} compression_type=${image.compressionType} ` +
    `size=${size}${optional('compat', compat)}${optional('backing_file', image.backingFile)}${optional('backing_fmt', image.backingFormat)}${optional('data_file', image.dataFile)}${image.dataFileRaw ? ' data_file_raw=on' : ''} lazy_refcounts=${image.lazyRefcounts ? 'on' : 'off'} ` +
    `refcount_bits=${image.refcountBits}\n`
  );
}

type Refuse = (reason: string) => never;

function checkExtended(image: NewImage, refuse: Refuse): void {
  if (image.compat === '0.10') {
    refuse('Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)');
  }
  if (image.clusterSize < MINIMUM_EXTENDED_CLUSTER_SIZE) {
    refuse(
      `Extended L2 entries are only supported with cluster sizes of at least ${MINIMUM_EXTENDED_CLUSTER_SIZE} bytes`,
    );
  }
}

function backingOptions(
  format: Format,
  options: ReadonlyMap<string, string>,
  behind: BackingArguments,
  refuse: Refuse,
): Pick<NewImage, 'backingFile' | 'backingFormat'> {
  const backingFile = behind.backing ?? options.get('backing_file');
  const given = behind.backingFormat ?? options.get('backing_fmt');
  if (backingFile !== undefined && format === 'raw') refuse("Backing file not supported for file format 'raw'");
  if (backingFile === undefined && given !== undefined) refuse('Backing format cannot be used without backing file');
  if (given !== undefined && given !== 'raw' && given !== 'qcow2') refuse(`Unknown backing file format '${given}'`);
  return { backingFile, backingFormat: given as Format | undefined };
}

function preallocationMode(format: Format, text: string | undefined, refuse: Refuse): Preallocation | undefined {
  if (text === undefined || text === 'off' || text === 'falloc' || text === 'full') return text;
  if (text !== 'metadata') return refuse(`Parameter 'preallocation' does not accept value '${text}'`);
  return format === 'raw' ? refuse('Unsupported preallocation mode: metadata') : text;
}

function compressionType(text: string, refuse: Refuse): NewImage['compressionType'] {
  if (text === 'zlib' || text === 'zstd') return text;
  return refuse(`Parameter 'compression-type' does not accept value '${text}'`);
}

/** A later option that asks for what is there anyway. */
function isOff(name: string, value: string): boolean {
  return name === 'encryption' && value === 'off';
}

function clusterSize(text: string, refuse: Refuse): number {
  const size = Number(sizeOption('cluster_size', text, refuse));
  if (size < MINIMUM_CLUSTER_SIZE || size > MAXIMUM_CLUSTER_SIZE || !Number.isInteger(Math.log2(size))) {
    refuse('Cluster size must be a power of two between 512 and 2048k');
  }
  return size;
}

function sizeOption(name: string, text: string, refuse: Refuse): bigint {
  try {
    return parseSize(text);
  } catch (error) {
    if (!(error instanceof SizeError)) throw error;
    return refuse(`Parameter '${name}' expects a size`);
  }
}

function compatibility(text: string | undefined, refuse: Refuse): NewImage['compat'] {
  if (text === undefined || text === '0.10' || text === '1.1') return text;
  if (text === 'v2') return '0.10';
  if (text === 'v3') return '1.1';
  return refuse(`Parameter 'compat' does not accept value '${text}'`);
}

function onOrOff(name: string, text: string, refuse: Refuse): boolean {
  if (text === 'on' || text === 'off') return text === 'on';
  return refuse(`Parameter '${name}' expects 'on' or 'off'`);
}

function refcountBits(text: string, refuse: Refuse): number {
  const bits = /^\d+$/.test(text) ? Number(text) : refuse("Parameter 'refcount_bits' expects a number");
  if (bits === 0 || bits > 64 || !Number.isInteger(Math.log2(bits))) {
    refuse('Refcount width must be a power of two and may not exceed 64 bits');
  }
  return bits;
}
