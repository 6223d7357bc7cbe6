/** `corral create`: a new, empty image. */

import { existsSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { CorralError } from '../../errors.js';
import { type Format, formatArgument, sizeArgument } from '../arguments.js';
import { checkSize, formattingLine, type NewImage, newImage } from '../create-options.js';
import { makeImage } from '../new-file.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import { flag, list, text, value } from '../option-table.js';
import { CommandError, escapeText, reasonOf, type Terminal, UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

const SECTOR = 512n;

interface Options {
  format: Format;
  options: readonly string[];
  quiet: boolean;
  backing: string | undefined;
  backingFormat: string | undefined;
  unsafe: boolean;
}

export const create = defineVerb({
  about: 'Makes a new, empty image. An existing file is overwritten, unless somebody uses it.',
  operands: 'FILE [SIZE]',
  options: {
    format: value('-f, --format FMT', 'qcow2 or raw', (given) => formatArgument(given)),
    options: list(
      '-o, --options LIST',
      'cluster_size=, compat=0.10|1.1, lazy_refcounts=on|off, refcount_bits=1|2|4|8|16|32|64, extended_l2=on|off, ' +
        'compression_type=zlib|zstd, data_file=, data_file_raw=on|off, size=, preallocation=off|metadata|falloc|full',
    ),
    quiet: flag('-q, --quiet', 'print nothing'),
    backing: text('-b, --backing FILE', 'what the disk continues from; relative to the folder of the new image'),
    // Newer versions of QEMU call it -B.
    backingFormat: text('-F, -B, --backing-format FMT', 'qcow2 or raw: the format of that file'),
    unsafe: flag('-u, --backing-unsafe', 'do not look at the backing file'),
  },
  async run({ values, operands }, { terminal }) {
    const [path, size] = operands;
    if (path === undefined) throw new UsageError('Expecting image file name');
    if (operands.length > 2) throw new UsageError(`Unexpected argument: ${operands[2]}`);
    const given = size === undefined ? undefined : sizeArgument(size, 'image size');
    // Who says qemu-img means it: there a new image is raw.
    const format = values.format ?? (terminal.program === 'qemu-img' ? 'raw' : 'qcow2');
    await createImage(path, given, { ...values, format }, terminal);
  },
});

async function createImage(
  path: string,
  given: bigint | undefined,
  options: Options,
  terminal: Terminal,
): Promise<void> {
  const image = newImage(path, options.format, options.options, {
    backing: options.backing,
    backingFormat: options.backingFormat,
  });
  if (given !== undefined && image.size !== undefined) {
    throw new CommandError(`${path}: The image size must be specified only once`);
  }
  const behind = await backingSize(path, image, options.unsafe);
  const size = given ?? image.size ?? behind;
  if (size === undefined) throw new CommandError(`${path}: Image creation needs a size parameter`);
  checkSize(path, image, size);
  const existed = existsSync(path);
  try {
    await makeImage(path, image, size);
  } catch (error) {
    if (!existed) await unlink(path).catch(() => {});
    throw cannotCreate(path, error);
  }
  if (!options.quiet) terminal.print(formattingLine(escapeText(path), image, size));
}

/** Bytes of the disk behind the new image, which must be one that can be read; undefined when nobody looks. */
async function backingSize(path: string, image: NewImage, unsafe: boolean): Promise<bigint | undefined> {
  const { backingFile, backingFormat } = image;
  if (backingFile === undefined) return undefined;
  if (backingFile === path) {
    throw new CommandError(`${path}: Error: Trying to create an image with the same filename as the backing file`);
  }
  if (unsafe) return undefined;
  const behind = backingFile.startsWith('/') ? backingFile : path.slice(0, path.lastIndexOf('/') + 1) + backingFile;
  try {
    const file = await openFile(behind);
    if (backingFormat === undefined) {
      const detected = await probeFormat(file);
      await file.close();
      throw new CommandError(`Backing file specified without backing format (detected format of ${detected})`);
    }
    if (backingFormat === 'qcow2') {
      await using opened = await openImageIn(file, behind, { requestCapacity: 1 });
      return BigInt(opened.size);
    }
    const length = BigInt(await file.size());
    await file.close();
    return ((length + SECTOR - 1n) / SECTOR) * SECTOR;
  } catch (error) {
    throw new CommandError(`${path}: ${error instanceof CommandError ? error.message : reasonOf(error)}`, 1, {
      cause: error,
    });
  }
}

/** "x: Could not create 'x': No such file or directory". */
function cannotCreate(path: string, error: unknown): unknown {
  if (!(error instanceof CorralError)) return error;
  const reason =
    error.code === 'ERR_LOCKED' ? 'Failed to get "write" lock: another process is using it' : reasonOf(error);
  return new CommandError(`${path}: Could not create '${path}': ${reason}`, 1, { cause: error });
}
