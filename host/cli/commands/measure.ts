/** `corral measure`: how long the file of a new image would become. */

import { bitmapsLength, fullyAllocatedLength } from '../../measure.js';
import { type Format, sizeArgument } from '../arguments.js';
import { FORCE_SHARE, IMAGE, NO_BACKING, OUTPUT } from '../common-options.js';
import { checkSize, type NewImage, readNewImage } from '../create-options.js';
import { type Disk, openDisk } from '../disk.js';
import { list, text, value } from '../option-table.js';
import { CommandError, formatJson } from '../output.js';
import { snapshotArgument } from '../snapshot-argument.js';
import { withHoles } from '../sparse-image.js';
import { defineVerb } from '../verb.js';

const LARGEST_CLUSTER = 2 * 1024 * 1024;

interface Measured {
  readonly required: number;
  readonly fullyAllocated: number;
  readonly bitmaps: number | undefined;
}

const BAD_MODE = 'invalid parameter value: $1';

export const measure = defineVerb({
  about: 'Says how long the file of a new image would become: of a size, or of what another image holds.',
  operands: '(--size SIZE | FILE)',
  options: {
    targetFormat: text('-O, --target-format FMT', 'qcow2 or raw (the default)'),
    size: value('-s, --size SIZE', 'bytes of an empty disk', (given) => sizeArgument(given, 'image size')),
    options: list('-o, --options LIST', 'options of the new image, as with create'),
    ...IMAGE,
    ...NO_BACKING,
    snapshot: value('-l, --snapshot SNAPSHOT', 'measure this internal snapshot', snapshotArgument),
    ...FORCE_SHARE,
    ...OUTPUT,
  },
  async run({ values, operands }, { terminal }) {
    const [path] = operands;
    const { size } = values;
    if (operands.length > 1) throw new CommandError('At most one filename argument is allowed.');
    if (path === undefined && (values.format ?? values.snapshot) !== undefined) {
      throw new CommandError('--image-opts, -f, and -l require a filename argument.');
    }
    if (path === undefined && values.imageOpts) {
      throw new CommandError('--image-opts, -f, and -l require a filename argument.');
    }
    if (path === undefined && size === undefined) {
      throw new CommandError('Either --size N or one filename must be specified.');
    }
    if (path !== undefined && size !== undefined) {
      throw new CommandError('--size N cannot be used together with a filename.');
    }
    const target = targetOf(values.targetFormat ?? 'raw', values.options);
    const measured = path === undefined ? measureSize(target, size ?? 0n) : await measureDisk(target, path, values);
    terminal.print(values.output === 'json' ? `${formatJson(jsonOf(measured))}\n` : humanOf(measured));
  },
});

function targetOf(format: string, options: readonly string[]): NewImage {
  if (format !== 'qcow2' && format !== 'raw') throw new CommandError(`Unknown file format '${format}'`);
  const image = readTarget(format, options);
  if (image.problem === undefined) return image;
  // The driver reads the mode by itself when it measures.
  throw new CommandError(image.problem.replace(/^Parameter 'preallocation' does not accept value '(.*)'$/s, BAD_MODE));
}

function readTarget(format: Format, options: readonly string[]): NewImage {
  try {
    return readNewImage(format, options, {}, '');
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const earlier = [error.message];
    throw new CommandError(`Invalid options for file format '${format}'`, 1, { cause: error, earlier });
  }
}

function measureSize(target: NewImage, size: bigint): Measured {
  try {
    checkSize('', target, size);
  } catch (error) {
    const hint = target.clusterSize < LARGEST_CLUSTER ? ' (try using a larger cluster size)' : '';
    throw new CommandError(`The image size is too large${hint}`, 1, { cause: error });
  }
  return lengths(target, Number(size), 0);
}

async function measureDisk(target: NewImage, path: string, options: Parameters<typeof openDisk>[1]): Promise<Measured> {
  const disk = await openDisk(path, options);
  try {
    // How much of what lies behind the image the new one will have behind it, too, is not known.
    const all = target.backingFile !== undefined;
    const measured = lengths(target, disk.size, all ? disk.size : await dataLength(disk, target.clusterSize));
    return {
      ...measured,
      bitmaps:
        target.format === 'qcow2' && target.compat !== '0.10' ? await bitmapsOf(disk, target.clusterSize) : undefined,
    };
  } finally {
    await disk.close();
  }
}

/** Bytes of the target's clusters that would have to hold something. */
async function dataLength(disk: Disk, clusterSize: number): Promise<number> {
  let [length, counted] = [0, 0];
  for await (const { offset, length: stretch, kind, hole } of withHoles(disk, disk.extents())) {
    if (kind === 'zero' || kind === 'unallocated' || hole) continue;
    const start = Math.max(counted, Math.floor(offset / clusterSize) * clusterSize);
    counted = Math.max(counted, Math.ceil((offset + stretch) / clusterSize) * clusterSize);
    length += Math.max(0, counted - start);
  }
  return length;
}

async function bitmapsOf({ image }: Disk, clusterSize: number): Promise<number | undefined> {
  // Version 2 has none.
  if (image === undefined || image.info.version === 2) return undefined;
  const bitmaps = (await image.bitmaps.list()).filter(({ inconsistent }) => !inconsistent);
  return bitmapsLength(bitmaps, image.size, clusterSize);
}

function lengths(target: NewImage, size: number, data: number): Measured {
  if (target.format === 'raw') {
    const whole = Math.ceil(size / 512) * 512;
    return { required: whole, fullyAllocated: whole, bitmaps: undefined };
  }
  const { clusterSize, refcountBits, extendedL2 } = target;
  const fullyAllocated = fullyAllocatedLength({ virtualSize: size, clusterSize, refcountBits, extendedL2 });
  const disk = Math.ceil(size / clusterSize) * clusterSize;
  const isFull = ['full', 'falloc'].includes(target.preallocation ?? 'off');
  return { required: isFull ? fullyAllocated : fullyAllocated - disk + data, fullyAllocated, bitmaps: undefined };
}

function jsonOf({ required, fullyAllocated, bitmaps }: Measured) {
  return { bitmaps, required, 'fully-allocated': fullyAllocated };
}

function humanOf({ required, fullyAllocated, bitmaps }: Measured): string {
  const last = bitmaps === undefined ? '' : `bitmaps size: ${bitmaps}\n`;
  return `required size: ${required}\nfully allocated size: ${fullyAllocated}\n${last}`;
}
