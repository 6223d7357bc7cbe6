/** `corral resize`: a longer or shorter disk, in qemu-img's words. */

import { fillFile, type Preallocation } from '../../preallocate.js';
import { sizeParameter } from '../arguments.js';
import { IMAGE, NO_BACKING } from '../common-options.js';
import { type Disk, openDisk } from '../disk.js';
import { askLive, type Live, liveDevice } from '../live.js';
import { flag, text } from '../option-table.js';
import { CommandError, reasonIn, type Terminal, UsageError } from '../output.js';
import { refuseFixed } from '../raw-window.js';
import { defineVerb } from '../verb.js';

const SECTOR = 512n;
const SHRINK_WARNING =
  "warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
  'Before performing such an operation, make sure there is no important data there.';

interface Options {
  format: string | undefined;
  imageOpts: boolean;
  shrink: boolean;
  preallocation: string | undefined;
  quiet: boolean;
}

export const resize = defineVerb({
  about: 'Makes the disk of an image longer or shorter; what is new reads as zeros.',
  operands: 'FILE [+-]SIZE',
  negativeSizes: true,
  options: {
    ...IMAGE,
    ...NO_BACKING,
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
  const live = liveDevice(path, options.format);
  if (live !== undefined) return resizeLive(live, [sign, amount], options, terminal);
  const disk = await openDisk(path, { ...options, write: true, terminal });
  try {
    const size = sign * amount + (sign === 0n ? amount : BigInt(disk.size));
    const shrinks = checkSize(size, disk.size, options, terminal);
    await resizeDisk(disk, Number(size), { shrink: shrinks, preallocation: preallocation as Preallocation });
  } catch (error) {
    await disk.close().catch(() => {});
    throw error instanceof CommandError ? error : new CommandError(reasonIn(path, error), 1, { cause: error });
  }
  await disk.close();
  if (!options.quiet) terminal.print('Image resized.\n');
}

/** What is served: it only becomes longer, without preallocation. */
async function resizeLive(
  live: Live,
  [sign, amount]: readonly [bigint, bigint],
  options: Options,
  terminal: Terminal,
): Promise<void> {
  const about = `Could not resize '${live.name}'`;
  if ((options.preallocation ?? 'off') !== 'off') {
    throw new CommandError(`${about}: nothing can be preallocated while it is served`);
  }
  const before = ((await askLive(live, { verb: 'stat' }, about)) as { diskSize: number }).diskSize;
  const size = sign * amount + (sign === 0n ? amount : BigInt(before));
  checkSize(size, before, options, terminal);
  refusePart(size);
  const answer = await askLive(live, { verb: 'resize', size: Number(size) }, about);
  const { deviceSize } = answer as { deviceSize: number };
  if (!options.quiet) terminal.print('Image resized.\n');
  if (live.id === undefined) {
    terminal.note(`${live.name}: clients see the new size when they connect again`);
  } else if (deviceSize !== Number(size)) {
    terminal.note(`${live.name} keeps its size until it is attached again: this kernel cannot change it`);
  }
}

/** What is to be done with the disk's size, and how much: 0 to set it, else 1 or -1. */
function readSize(text: string): [sign: bigint, amount: bigint] {
  const sign = text.startsWith('+') ? 1n : text.startsWith('-') ? -1n : 0n;
  const digits = sign === 0n ? text : text.slice(1);
  return [sign, sizeParameter('size', digits)];
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
    const hints = [`${terminal.program}: ${SHRINK_WARNING}`];
    throw new CommandError('Use the --shrink option to perform a shrink operation.', 1, { hints });
  }
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new CommandError('The image size is too large');
  return shrinks;
}

/** An image has whole sectors; a raw disk may end anywhere. */
function refusePart(size: bigint): void {
  if (size % SECTOR !== 0n) throw new CommandError('The new size must be a multiple of 512');
}

/** A raw disk, or a part of a file, grows as its format allows. */
async function resizeDisk(
  disk: Disk,
  size: number,
  how: { shrink: boolean; preallocation: Preallocation },
): Promise<void> {
  const { image } = disk;
  if (image !== undefined) {
    refusePart(BigInt(size));
    return image.resize(size, how);
  }
  const { preallocation: mode } = how;
  refuseFixed(disk.name.window);
  if (mode === 'metadata') throw new CommandError('Unsupported preallocation mode: metadata');
  const before = disk.size;
  const fileLength = await disk.file.size();
  await disk.resize(size);
  if (mode === 'off') return;
  const offset = (disk.name.window?.offset ?? 0) + before;
  try {
    await fillFile(disk.file, { mode, offset, length: size - before });
  } catch (error) {
    // If it cannot become as short as it was, so be it: the disk is longer then, and whole.
    await disk.file.truncate(fileLength).catch(() => {});
    throw error;
  }
}
