/** `corral amend`: changes properties of an image, in qemu-img's words. */

import type { AmendImageOptions } from '../../amend.js';
import type { CacheMode } from '../../cache-mode.js';
import { CorralError } from '../../errors.js';
import { cacheArgument, type Format, formatArgument, optionList, sizeParameter } from '../arguments.js';
import { openFile, openImageIn } from '../open.js';
import { flag, list, value } from '../option-table.js';
import { amendOptionsHelp, asksForOptions } from '../options-help.js';
import { CommandError, reasonOf, UsageError } from '../output.js';
import { defineVerb, oneOperand } from '../verb.js';

interface Options {
  format: Format | undefined;
  options: readonly string[];
  cache: CacheMode | undefined;
}

/** What only a new image can have. */
const OF_CREATION = new Set(['cluster_size', 'compression_type', 'encryption', 'extended_l2', 'preallocation']);

export const amend = defineVerb({
  about: 'Changes properties of an image; what its disk holds stays as it is.',
  operands: 'FILE',
  options: {
    format: value('-f, --format FMT', 'qcow2, the only format that has such properties', (given) =>
      formatArgument(given),
    ),
    options: list('-o, --options LIST', 'compat=, lazy_refcounts=, refcount_bits=, data_file_raw=, size='),
    cache: value('-t MODE', 'none, writeback (default), writethrough, directsync or unsafe', (given) =>
      cacheArgument(given, 'cache'),
    ),
    quiet: flag('-q, --quiet', 'print nothing'),
  },
  async run({ values, operands }, { terminal }) {
    if (values.options.length === 0) throw new UsageError('Must specify options (-o)');
    if (asksForOptions(values.options)) terminal.print(amendOptionsHelp());
    else await amendImage(oneOperand(operands), values);
  },
});

async function amendImage(path: string, { format, options: lists, cache }: Options): Promise<void> {
  if (format === 'raw') throw new CommandError("Format driver 'raw' does not support option amendment");
  const { size, ...changes } = readOptions(optionList(lists));
  const file = await openFile(path, { write: true, cache });
  const image = await openImageIn(file, path, { write: true, tablesOnly: true, cache });
  try {
    await image.amend(changes);
  } catch (error) {
    await image.close().catch(() => {});
    throw error instanceof CorralError ? new CommandError(reasonOf(error), 1, { cause: error }) : error;
  }
  await image.close();
  if (size !== undefined) await setSize(path, size, cache);
}

/** Another size touches the guest's bytes: the image is opened with everything that it needs. */
async function setSize(path: string, size: bigint, cache: CacheMode | undefined): Promise<void> {
  const image = await openImageIn(await openFile(path, { write: true, cache }), path, { write: true, cache });
  try {
    await image.resize(size, { shrink: true });
  } catch (error) {
    await image.close().catch(() => {});
    throw error instanceof CorralError ? new CommandError(reasonOf(error), 1, { cause: error }) : error;
  }
  await image.close();
}

function readOptions(options: Map<string, string>): AmendImageOptions & { size?: bigint } {
  const changes: AmendImageOptions & { size?: bigint } = {};
  for (const [name, value] of options) {
    switch (name) {
      case 'compat':
        changes.compat = compatibility(value);
        break;
      case 'lazy_refcounts':
        changes.lazyRefcounts = onOrOff(name, value);
        break;
      case 'refcount_bits':
        changes.refcountBits = refcountBits(value);
        break;
      case 'data_file_raw':
        if (onOrOff(name, value)) throw new CommandError('data-file-raw cannot be set on existing images');
        changes.dataFileRaw = false;
        break;
      case 'size':
        changes.size = sizeParameter(name, value);
        break;
      case 'backing_file':
      case 'backing_fmt':
        throw new CommandError('Cannot amend the backing file');
      default:
        throw new CommandError(`Invalid parameter '${name}'`, 1, {
          hints: OF_CREATION.has(name) ? ['This option is only supported for image creation'] : [],
        });
    }
  }
  return changes;
}

function compatibility(text: string): '0.10' | '1.1' {
  if (text === '0.10' || text === 'v2') return '0.10';
  if (text === '1.1' || text === 'v3') return '1.1';
  throw new CommandError(`Unknown compatibility level ${text}`);
}

function onOrOff(name: string, text: string): boolean {
  if (text === 'on' || text === 'off') return text === 'on';
  throw new CommandError(`Parameter '${name}' expects 'on' or 'off'`);
}

function refcountBits(text: string): number {
  if (!/^\d+$/.test(text)) throw new CommandError("Parameter 'refcount_bits' expects a number");
  const bits = Number(text);
  if (bits >= 1 && bits <= 64 && Number.isInteger(Math.log2(bits))) return bits;
  throw new CommandError('Refcount width must be a power of two and may not exceed 64 bits');
}
