/** `corral create`: a new, empty image. */

import { existsSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { CorralError } from '../../errors.js';
import { type Format, sizeArgument } from '../arguments.js';
import { OBJECTS } from '../common-options.js';
import { checkSize, formattingLine, type NewImage, readNewImage } from '../create-options.js';
import { newFilePath } from '../image-name.js';
import { makeImage } from '../new-file.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import { flag, list, text } from '../option-table.js';
import { asksForOptions, createOptionsHelp } from '../options-help.js';
import { CommandError, escapeText, pathOf, reasonOf, type Terminal, UsageError } from '../output.js';
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
    format: text('-f, --format FMT', 'qcow2 or raw'),
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
    ...OBJECTS,
  },
  async run({ values, operands }, { terminal }) {
    const [path, size] = operands;
    // Who says qemu-img means it: there a new image is raw.
    const format = values.format ?? (terminal.program === 'qemu-img' ? 'raw' : 'qcow2');
    const unknown = format !== 'qcow2' && format !== 'raw' ? `Unknown file format '${format}'` : undefined;
    if (asksForOptions(values.options)) {
      if (unknown !== undefined) throw new CommandError(unknown);
      terminal.print(createOptionsHelp(format as Format, path !== undefined));
      return;
    }
    if (path === undefined) throw new UsageError('Expecting image file name');
    if (operands.length > 2) throw new UsageError(`Unexpected argument: ${operands[2]}`);
    const given = size === undefined ? undefined : sizeArgument(size, 'image size');
    if (unknown !== undefined) throw new CommandError(`${path}: ${unknown}`);
    await createImage(path, given, { ...values, format: format as Format }, terminal);
  },
});

async function createImage(
  name: string,
  given: bigint | undefined,
  options: Options,
  terminal: Terminal,
): Promise<void> {
  const about = `${name}: `;
  const path = filePathOf(name, about);
  const behind = { backing: options.backing, backingFormat: options.backingFormat };
  const image = readNewImage(options.format, options.options, behind, about);
  if (given !== undefined && image.size !== undefined) {
    throw new CommandError(`${about}The image size must be specified only once`);
  }
  const size = given ?? image.size ?? (await backingSize(path, image, options));
  if (given !== undefined || image.size !== undefined) await backingSize(path, image, options);
  if (size === undefined) throw new CommandError(`${about}Image creation needs a size parameter`);
  if (!options.quiet) terminal.print(formattingLine(escapeText(name), image, size));
  if (image.problem !== undefined) throw new CommandError(about + image.problem);
  checkSize(name, image, size);
  const existed = existsSync(path);
  try {
    await makeImage(path, image, size);
  } catch (error) {
    if (!existed) await unlink(path).catch(() => {});
    throw cannotCreate(name, path, error);
  }
}

/** Throws `CommandError` for what is no file's name. */
function filePathOf(name: string, about: string): string {
  try {
    return newFilePath(name);
  } catch (error) {
    throw error instanceof CommandError ? new CommandError(about + error.message, 1, { cause: error }) : error;
  }
}

/** Bytes of the disk behind the new image, which must be one that can be read; undefined when nobody looks. */
async function backingSize(path: string, image: NewImage, options: Options): Promise<bigint | undefined> {
  const { backingFile, backingFormat } = image;
  if (backingFile === undefined) return undefined;
  const format = options.backingFormat ?? image.given.get('backing_fmt');
  if (backingFile === '') throw new CommandError(`${path}: Expected backing file name, got empty string`);
  if (backingFile === path) {
    throw new CommandError(`${path}: Error: Trying to create an image with the same filename as the backing file`);
  }
  if (options.unsafe) {
    if (format === undefined) throw new CommandError(`${path}: Backing file specified without backing format`);
    return undefined;
  }
  if (format !== undefined && backingFormat === undefined) {
    throw new CommandError(`${path}: Unknown driver '${format}'`, 1, { hints: ['Could not open backing image.'] });
  }
  const behind = backingFile.startsWith('/') ? backingFile : path.slice(0, path.lastIndexOf('/') + 1) + backingFile;
  const file = await openFile(behind).catch((error: unknown) => {
    throw cannotOpenBacking(path, behind, error);
  });
  if (backingFormat === undefined) {
    const hints = [`Detected format of ${await probeFormat(file)}.`];
    await file.close();
    throw new CommandError(`${path}: Backing file specified without backing format`, 1, { hints });
  }
  if (backingFormat === 'qcow2') {
    const opened = await openImageIn(file, behind, { requestCapacity: 1 }).catch((error: unknown) => {
      throw cannotOpenBacking(path, behind, error);
    });
    const length = BigInt(opened.size);
    await opened.close();
    return length;
  }
  const length = BigInt(await file.size());
  await file.close();
  return ((length + SECTOR - 1n) / SECTOR) * SECTOR;
}

function cannotOpenBacking(path: string, behind: string, error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  const about = `Could not open '${behind}': `;
  const reason = error.message.startsWith(about) ? error.message.slice(about.length) : error.message;
  return new CommandError(`${path}: ${reason}`, 1, { cause: error, hints: ['Could not open backing image.'] });
}

/** "x: Could not create 'x': No such file or directory". */
function cannotCreate(name: string, path: string, error: unknown): unknown {
  if (error instanceof CommandError) return error;
  // The file itself, or the one of the guest's data.
  const which = pathOf(error) ?? path;
  if (error instanceof CorralError && error.code === 'ERR_LOCKED') {
    const hints = [`Is another process using the image [${which}]?`];
    return new CommandError(`${name}: Failed to get "write" lock`, 1, { cause: error, hints });
  }
  return new CommandError(`${name}: Could not create '${which}': ${reasonOf(error)}`, 1, { cause: error });
}
