/** `corral amend`: changes properties of an image, in qemu-img's words. */

import type { AmendImageOptions } from '../../amend.js';
import { CorralError } from '../../errors.js';
import type { ImageFacts } from '../../image-facts.js';
import { optionList, sizeParameter, switchValue, wholeNumber } from '../arguments.js';
import { Closers } from '../closers.js';
import { cacheOption, IMAGE, PROGRESS, QUIET } from '../common-options.js';
import { openDisk, warnOfGuess } from '../disk.js';
import { flag, list, type OptionValues } from '../option-table.js';
import { amendOptionsHelp, asksForOptions } from '../options-help.js';
import { CommandError, reasonIn, type Terminal, UsageError } from '../output.js';
import { showProgress } from '../progress.js';
import { defineVerb, oneOperand } from '../verb.js';

const SECTOR = 512;
const NO_AMENDMENT = "Format driver 'raw' does not support option amendment";
/** Entries of the longest L1 table. */
const LONGEST_L1_TABLE = 2 ** 22;

/** What only a new image can have. */
const OF_CREATION = new Set([
  ...['cluster_size', 'compression_type', 'encryption', 'extended_l2', 'preallocation'],
  ...['cipher-alg', 'cipher-mode', 'format', 'hash-alg', 'ivgen-alg', 'ivgen-hash-alg', 'key-secret'].map(
    (name) => `encrypt.${name}`,
  ),
]);
/** What only an encrypted image can have, and those are not opened. */
const OF_ENCRYPTION = new Set(
  ['iter-time', 'keyslot', 'new-secret', 'old-secret', 'state'].map((name) => `encrypt.${name}`),
);

const OPTIONS = {
  ...IMAGE,
  options: list('-o, --options LIST', 'compat=, lazy_refcounts=, refcount_bits=, data_file=, data_file_raw=, size='),
  cache: cacheOption('-t, --cache CACHE'),
  force: flag('--force', 'of no effect here: there are no encrypted images'),
  ...PROGRESS,
  ...QUIET,
};

type Options = OptionValues<typeof OPTIONS>;

export const amend = defineVerb({
  about: 'Changes properties of an image; what its disk holds stays as it is.',
  operands: 'FILE',
  options: OPTIONS,
  async run({ values, operands }, { terminal }) {
    if (values.options.length === 0) throw new UsageError('Must specify options (-o)');
    if (asksForOptions(values.options)) {
      // Whose options they are, the image says where -f does not.
      if (values.format === undefined) await formatOf(helpedFile(operands), values, terminal);
      if (values.format === 'raw') throw new CommandError(NO_AMENDMENT);
      if (values.format !== undefined && values.format !== 'qcow2') {
        throw new CommandError(`Unknown file format '${values.format}'`);
      }
      terminal.print(amendOptionsHelp());
    } else await amendImage(oneOperand(operands), values, terminal);
  },
});

function helpedFile([path, ...more]: readonly string[]): string {
  if (path !== undefined && more.length === 0) return path;
  throw new CommandError('Expecting one image file name');
}

/** Throws when the file cannot be opened, or cannot be amended. */
async function formatOf(path: string, { imageOpts }: Options, terminal: Terminal): Promise<void> {
  const disk = await openDisk(path, { imageOpts, tablesOnly: true });
  await disk.close();
  if (disk.format === 'qcow2') return;
  if (disk.name.format === undefined) warnOfGuess(path, terminal);
  throw new CommandError(NO_AMENDMENT);
}

async function amendImage(path: string, options: Options, terminal: Terminal): Promise<void> {
  const { format, imageOpts, cache, options: lists } = options;
  const given = optionList(lists);
  // Another size touches the guest's bytes, and a downgrade writes out the zeros that hide a backing file: with the whole
  // chain open, as QEMU always has it.
  const tablesOnly = !given.has('size') && !['0.10', 'v2'].includes(given.get('compat') ?? '');
  await using opened = new Closers();
  const { image } = opened.add(await openDisk(path, { format, imageOpts, cache, write: true, tablesOnly, terminal }));
  if (image === undefined) throw new CommandError(NO_AMENDMENT);
  const readable = readOptions(given);
  const { size } = readable;
  const changes = changesOf(readable);
  const progress = showProgress(terminal, options.quiet ? undefined : options.progress);
  try {
    checkBacking(image.info, readable, terminal.program);
    if (size !== undefined) checkSize(image.info, changes, Number(size));
    await image.amend(changes);
    if (size !== undefined) await image.resize(size, { shrink: true });
    progress.finish();
    await image.close();
  } catch (error) {
    throw error instanceof CorralError ? new CommandError(reasonIn(path, error), 1, { cause: error }) : error;
  }
}

/** As they stand on the command line: each of them can be read, whatever it says. */
interface Given {
  compat?: string;
  lazyRefcounts?: boolean;
  refcountBits?: number;
  dataFile?: string;
  dataFileRaw?: boolean;
  backingFile?: string;
  backingFormat?: string;
  size?: bigint;
}

/** Throws `CommandError` for what nobody knows, or what cannot be read; only then is looked at what the values mean. */
function readOptions(options: Map<string, string>): Given {
  const given: Given = {};
  for (const [name, text] of options) {
    switch (name) {
      case 'compat':
        given.compat = text;
        break;
      case 'lazy_refcounts':
        given.lazyRefcounts = onOrOff(name, text);
        break;
      case 'refcount_bits':
        given.refcountBits = numberIn(name, text);
        break;
      case 'data_file':
        given.dataFile = text;
        break;
      case 'data_file_raw':
        given.dataFileRaw = onOrOff(name, text);
        break;
      case 'size':
        given.size = sizeParameter(name, text);
        break;
      case 'backing_file':
        given.backingFile = text;
        break;
      case 'backing_fmt':
        given.backingFormat = text;
        break;
      default:
        refuseOption(name);
    }
  }
  return given;
}

function refuseOption(name: string): never {
  if (OF_ENCRYPTION.has(name)) throw new CommandError("Can't amend encryption options - encryption not present");
  throw new CommandError(`Invalid parameter '${name}'`, 1, {
    hints: OF_CREATION.has(name) ? ['This option is only supported for image creation'] : [],
  });
}

function changesOf({ compat, lazyRefcounts, refcountBits, dataFile, dataFileRaw }: Given): AmendImageOptions {
  return {
    ...(compat === undefined ? {} : { compat: compatibility(compat) }),
    ...(lazyRefcounts === undefined ? {} : { lazyRefcounts }),
    ...(refcountBits === undefined ? {} : { refcountBits: refcountWidth(refcountBits) }),
    ...(dataFile === undefined ? {} : { dataFile: dataFile === '' ? null : dataFile }),
    ...(dataFileRaw === undefined ? {} : { dataFileRaw }),
  };
}

/** As QEMU: who names the backing file has to name what is there, all of it; nothing changes then. */
function checkBacking(info: ImageFacts, { backingFile, backingFormat }: Given, program: string): void {
  if (backingFile === undefined && backingFormat === undefined) return;
  if (backingFile === info.backingFile && backingFormat === info.backingFormat) return;
  throw new CommandError('Cannot amend the backing file', 1, { hints: [`You can use '${program} rebase' instead.`] });
}

/** The size comes last: what is in its way must be known before anything changes. */
function checkSize(info: ImageFacts, { compat, dataFile }: AmendImageOptions, size: number): void {
  if (size === info.virtualSize) return;
  if (size % SECTOR !== 0) throw new CommandError('The new size must be a multiple of 512');
  if (dataFile !== undefined) throw new CommandError('Cannot change the size and the data file in one call');
  const tableEntries = info.clusterSize / (info.extendedL2 ? 16 : 8);
  if (size > LONGEST_L1_TABLE * tableEntries * info.clusterSize) throw new CommandError('The new size is too large');
  if (info.snapshotCount === 0) return;
  if (compat === '0.10') throw new CommandError('Internal snapshots prevent downgrade of image');
  const old = compat === undefined && info.version === 2;
  if (old) throw new CommandError("Can't resize a v2 image which has snapshots");
}

function compatibility(text: string): '0.10' | '1.1' {
  if (text === '0.10' || text === 'v2') return '0.10';
  if (text === '1.1' || text === 'v3') return '1.1';
  throw new CommandError(`Unknown compatibility level ${text}`);
}

function onOrOff(name: string, text: string): boolean {
  const value = switchValue(text);
  if (value !== undefined) return value;
  throw new CommandError(`Parameter '${name}' expects 'on' or 'off'`);
}

function numberIn(name: string, text: string): number {
  const value = wholeNumber(text);
  if (value !== undefined) return value;
  throw new CommandError(`Parameter '${name}' expects a number`);
}

function refcountWidth(bits: number): number {
  if (bits >= 1 && bits <= 64 && Number.isInteger(Math.log2(bits))) return bits;
  throw new CommandError('Refcount width must be a power of two and may not exceed 64 bits');
}
