/** `corral dd`: copies a part of a disk into a new image, with dd's operands. */

import { partOf } from '../../convert-source.js';
import { parseSize, SizeError } from '../arguments.js';
import { Closers } from '../closers.js';
import { FORCE_SHARE, IMAGE, NO_BACKING } from '../common-options.js';
import { sourceOf } from '../copy-source.js';
import { copyToNew } from '../copy-target.js';
import { checkSize, newImage } from '../create-options.js';
import { openDisk } from '../disk.js';
import { newFilePath } from '../image-name.js';
import { text } from '../option-table.js';
import { CommandError } from '../output.js';
import { stopSignal } from '../signals.js';
import { defineVerb } from '../verb.js';

const DEFAULT_BLOCK = 512;
const MAXIMUM_BLOCK = 2 ** 31 - 1;
const SECTOR = 512;

/** Sizes are bytes, counts are blocks. */
interface Operands {
  input: string | undefined;
  output: string | undefined;
  blockSize: number;
  count: bigint | undefined;
  skip: bigint;
}

export const dd = defineVerb({
  about: 'Copies blocks of a disk into a new image. As with qemu-img, blocks are counted from the start of the input.',
  operands: '[bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=INPUT of=OUTPUT',
  options: {
    ...IMAGE,
    outputFormat: text('-O, --output-format FMT', 'qcow2 or raw (the default)'),
    ...FORCE_SHARE,
    ...NO_BACKING,
  },
  async run({ values, operands }, { terminal }) {
    const { input, output, blockSize, count, skip } = readOperands(operands);
    if (input === undefined || output === undefined) throw new CommandError('Must specify both input and output files');
    const { outputFormat = 'raw', imageOpts, format, noBacking, forceShare } = values;
    if (imageOpts && format !== undefined) throw new CommandError('--image-opts and --format are mutually exclusive');
    await using opened = new Closers();
    const disk = opened.add(await openDisk(input, { imageOpts, format, noBacking, forceShare }));
    if (outputFormat !== 'raw' && outputFormat !== 'qcow2') throw new CommandError('Unknown file format');
    const [begin, end] = stretch(disk.size, blockSize, count, skip);
    if (begin > end) terminal.complain(`${input}: cannot skip to specified offset`);
    const path = newFilePath(output);
    const image = newImage(output, outputFormat, []);
    const length = Math.max(0, end - begin);
    checkSize(output, image, BigInt(length));
    const stop = stopSignal();
    try {
      const source = partOf(sourceOf(disk), begin, Math.ceil(length / SECTOR) * SECTOR);
      const options = {
        sparseSize: undefined,
        requests: undefined,
        progress: undefined,
        compress: false,
        compressionLevel: undefined,
        noBacking,
        targetCache: undefined,
        rate: undefined,
      };
      const about = `${output}: error while creating output image`;
      await copyToNew(source, path, image, { options, around: { terminal, stop }, about });
    } catch (error) {
      if (stop.exitCode === 0) throw error;
      throw new CommandError(`Interrupted: '${output}' was not made`, stop.exitCode, { cause: error });
    } finally {
      stop.release();
    }
  },
});

/** Where the copy begins and ends; a skip beyond the end leaves nothing. */
function stretch(
  size: number,
  blockSize: number,
  count: bigint | undefined,
  skip: bigint,
): [begin: number, end: number] {
  const block = BigInt(blockSize);
  const end = count === undefined || count * block > BigInt(size) ? size : Number(count * block);
  const begin = skip * block;
  return [begin > BigInt(end) ? Number.POSITIVE_INFINITY : Number(begin), end];
}

function readOperands(operands: readonly string[]): Operands {
  const found: Operands = { input: undefined, output: undefined, blockSize: DEFAULT_BLOCK, count: undefined, skip: 0n };
  for (const operand of operands) {
    const equals = operand.indexOf('=');
    const name = equals === -1 ? operand : operand.slice(0, equals);
    const given = equals === -1 ? undefined : operand.slice(equals + 1);
    if (given === undefined) throw new CommandError(`unrecognized operand ${operand}`);
    if (name === 'if') found.input = given;
    else if (name === 'of') found.output = given;
    else if (name === 'bs') found.blockSize = Number(number(given, 'bs', 1n, BigInt(MAXIMUM_BLOCK)));
    else if (name === 'count') found.count = number(given, 'count', 0n);
    else if (name === 'skip') found.skip = number(given, 'skip', 0n);
    else throw new CommandError(`unrecognized operand ${name}`);
  }
  return found;
}

function number(text: string, what: string, minimum: bigint, maximum = 2n ** 63n - 1n): bigint {
  try {
    // Only what is counted in bytes has suffixes.
    if (what !== 'bs' && /[a-z]$/i.test(text) && !/^0x/i.test(text)) throw new SizeError('text');
    const size = parseSize(text);
    if (size >= minimum && size <= maximum) return size;
  } catch (error) {
    if (!(error instanceof SizeError)) throw error;
    if (error.problem === 'text') throw new CommandError(`Invalid ${what} specified: '${text}'.`);
  }
  throw new CommandError(`Invalid ${what} specified. Must be between ${minimum} and ${maximum}.`);
}
