/** `corral resize`: a longer or shorter disk, in qemu-img's words. */

import type { NodeFile } from '../../node/node-file.js';
import { fillFile, type Preallocation } from '../../preallocate.js';
import { type Format, formatArgument, parseSize, SizeError } from '../arguments.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import { flag, text, value } from '../option-table.js';
import { CommandError, reasonOf, type Terminal, UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

const SECTOR = 512n;
const SHRINK_WARNING =
  "warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
  'Before performing such an operation, make sure there is no important data there.';

interface Options {
  format: Format | undefined;
  shrink: boolean;
  preallocation: string | undefined;
  quiet: boolean;
}

/** A disk whose size can be changed. Sizes are bytes. */
interface Disk {
  readonly size: number;
  resize(size: number, options: { shrink: boolean; preallocation: Preallocation }): Promise<void>;
  close(): Promise<void>;
}

export const resize = defineVerb({
  about: 'Makes the disk of an image longer or shorter; what is new reads as zeros.',
  operands: 'FILE [+-]SIZE',
  negativeSizes: true,
  options: {
    format: value('-f, --format FMT', 'qcow2 or raw; raw is never guessed', (given) => formatArgument(given)),
    shrink: flag('--shrink', 'the disk may become shorter; what lies behind its new end is lost'),
    preallocation: text('--preallocation MODE', 'off, metadata, falloc or full: of what is new'),
    quiet: flag('-q, --quiet', 'print nothing'),
  },
  async run({ values, operands }, { terminal }) {
    const [path, size] = operands;
    if (path === undefined || size === undefined) throw new UsageError('Expecting image file name and size');
    if (operands.length > 2) throw new UsageError('Extra argument(s) in command line');
    await resizeImage(path, size, values, terminal);
  },
});

async function resizeImage(path: string, text: string, options: Options, terminal: Terminal): Promise<void> {
  const { preallocation = 'off' } = options;
  if (!/^(off|metadata|falloc|full)$/.test(preallocation)) {
    throw new CommandError(`Invalid preallocation mode '${preallocation}'`);
  }
  const [sign, amount] = readSize(text);
  const disk = await openDisk(path, options.format);
  try {
    const size = sign * amount + (sign === 0n ? amount : BigInt(disk.size));
    const shrinks = checkSize(size, disk.size, options, terminal);
    await disk.resize(Number(size), { shrink: shrinks, preallocation: preallocation as Preallocation });
  } catch (error) {
    await disk.close().catch(() => {});
    throw error instanceof CommandError ? error : new CommandError(reasonOf(error), 1, { cause: error });
  }
  await disk.close();
  if (!options.quiet) terminal.print('Image resized.\n');
}

/** What is to be done with the disk's size, and how much: 0 to set it, else 1 or -1. */
function readSize(text: string): [sign: bigint, amount: bigint] {
  const sign = text.startsWith('+') ? 1n : text.startsWith('-') ? -1n : 0n;
  const digits = sign === 0n ? text : text.slice(1);
  try {
    return [sign, parseSize(digits)];
  } catch (error) {
    if (!(error instanceof SizeError)) throw error;
    if (error.outOfRange) throw new CommandError(`Value '${digits}' is out of range for parameter 'size'`);
    throw new CommandError("Parameter 'size' expects a non-negative number below 2^64");
  }
}

/** Refuses what QEMU refuses; true when the disk becomes shorter. */
function checkSize(size: bigint, before: number, options: Options, terminal: Terminal): boolean {
  if (size <= 0n) throw new CommandError('New image size must be positive');
  const preallocates = options.preallocation !== undefined && options.preallocation !== 'off';
  if (preallocates && size <= BigInt(before)) {
    throw new CommandError('Preallocation can only be used for growing images');
  }
  const shrinks = size < BigInt(before);
  if (shrinks && !options.shrink) {
    terminal.note(`corral: ${SHRINK_WARNING}`);
    throw new CommandError('Use the --shrink option to perform a shrink operation.');
  }
  if (size % SECTOR !== 0n) throw new CommandError('The new size must be a multiple of 512');
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new CommandError('The image size is too large');
  return shrinks;
}

async function openDisk(path: string, wanted: Format | undefined): Promise<Disk> {
  const file = await openFile(path, { write: true });
  const format = wanted ?? (await probeFormat(file));
  if (format === 'qcow2') {
    const image = await openImageIn(file, path, { write: true });
    return {
      size: image.size,
      resize: (size, how) => image.resize(size, how),
      close: () => image.close(),
    };
  }
  if (wanted === undefined) {
    await file.close();
    throw new CommandError(`'${path}' has no known format: -f raw resizes it as it is`);
  }
  const before = await file.size();
  return { size: before, resize: (size, how) => resizeRaw(file, before, size, how), close: () => file.close() };
}

async function resizeRaw(
  file: NodeFile,
  before: number,
  size: number,
  { preallocation }: { preallocation: Preallocation },
): Promise<void> {
  if (preallocation === 'metadata') throw new CommandError('Unsupported preallocation mode: metadata');
  await file.truncate(size);
  if (preallocation !== 'off') await fillFile(file, { mode: preallocation, offset: before, length: size - before });
}
