/** `corral create`: a new, empty image. */

import { existsSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { CorralError } from '../../errors.js';
import { collect, type Format, formatArgument, sizeArgument } from '../arguments.js';
import type { Context } from '../context.js';
import { checkSize, formattingLine, newImage } from '../create-options.js';
import { makeImage } from '../new-file.js';
import { CommandError, escapeText, reasonOf, type Terminal } from '../output.js';

interface Options {
  format: Format;
  options?: string[];
  quiet?: boolean;
  backing?: string;
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
    .addOption(new Option('-b, --backing <file>').hideHelp())
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
  if (options.backing !== undefined) throw new CommandError(`${path}: Backing files (-b) are not supported yet`);
  const image = newImage(path, options.format, options.options ?? []);
  if (given !== undefined && image.size !== undefined) {
    throw new CommandError(`${path}: The image size must be specified only once`);
  }
  const size = given ?? image.size;
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

/** "x: Could not create 'x': No such file or directory". */
function cannotCreate(path: string, error: unknown): unknown {
  if (!(error instanceof CorralError)) return error;
  const reason =
    error.code === 'ERR_LOCKED' ? 'Failed to get "write" lock: another process is using it' : reasonOf(error);
  return new CommandError(`${path}: Could not create '${path}': ${reason}`, 1, { cause: error });
}
