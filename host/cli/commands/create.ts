/** `corral create`: a new, empty image. */

import { existsSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { CorralError } from '../../errors.js';
import { collect, type Format, formatArgument, sizeArgument } from '../arguments.js';
import type { Context } from '../context.js';
import { checkSize, formattingLine, type NewImage, newImage } from '../create-options.js';
import { makeImage } from '../new-file.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import { CommandError, escapeText, reasonOf, type Terminal } from '../output.js';

const SECTOR = 512n;

interface Options {
  format: Format;
  options?: string[];
  quiet?: boolean;
  backing?: string;
  backingFormat?: string;
  /** What newer versions of qemu-img call `-F`. */
  B?: string;
  unsafe?: boolean;
}

export function create(command: Command, context: Context): void {
  command
    .description('Makes a new, empty image. An existing file is overwritten, unless somebody uses it.')
    .argument('<file>', 'the image')
    .argument('[size]', 'bytes of the disk, as in 512, 64k, 1.5G', (text) => sizeArgument(text, 'image size'))
    .option('-f, --format <format>', 'qcow2 or raw', (text) => formatArgument(text), 'qcow2')
    .option(
      '-o, --options <list>',
      'cluster_size=, compat=0.10|1.1, lazy_refcounts=on|off, refcount_bits=1|2|4|8|16|32|64, extended_l2=on|off, compression_type=zlib|zstd, data_file=, data_file_raw=on|off, size=, preallocation=off',
      collect,
    )
    .option('-q, --quiet', 'print nothing')
    .option('-b, --backing <file>', 'what the disk continues from; relative to the folder of the new image')
    .option('-F, --backing-format <format>', 'qcow2 or raw: the format of that file')
    .addOption(new Option('-B <format>').hideHelp())
    .option('-u, --unsafe', 'do not look at the backing file')
    .action((path: string, size: bigint | undefined, options: Options) =>
      createImage(path, size, options, context.terminal),
    );
}

async function createImage(
  path: string,
  given: bigint | undefined,
  options: Options,
  terminal: Terminal,
): Promise<void> {
  const image = newImage(path, options.format, options.options ?? [], {
    backing: options.backing,
    backingFormat: options.backingFormat ?? options.B,
  });
  if (given !== undefined && image.size !== undefined) {
    throw new CommandError(`${path}: The image size must be specified only once`);
  }
  const behind = await backingSize(path, image, options.unsafe === true);
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
