/** Opening a disk: its file, the error injector on it, its image. */

import type { BlockFile } from '../../block-file.js';
import { isDirect } from '../../cache-mode.js';
import type { BackingChoice } from '../../chain.js';
import { CorralError } from '../../errors.js';
import { FaultFile } from '../../fault-file.js';
import type { FaultInjector } from '../../fault-injector.js';
import type { OpenGate } from '../../open-gate.js';
import { WatchedBacking } from '../../watched-backing.js';
import { backingChoice } from '../disk.js';
import { withFaults } from '../faults.js';
import { headerWords } from '../header-words.js';
import { type FileOptions, gateOf, openFile, openImageIn, probeFormat } from '../open.js';
import { CommandError, reasonOf } from '../output.js';
import { type RawWindow, WindowFile } from '../raw-window.js';
import { CopyOnReadDisk } from './copy-on-read.js';
import type { Disk } from './disk.js';
import type { DiskOptions } from './disk-options.js';
import type { DiskSettings, DiskSource } from './disk-source.js';
import { ImageDisk } from './image-disk.js';
import { RawDisk } from './raw-disk.js';
import { openTemporaryOverlay } from './temporary-overlay.js';

/** Copying a raw disk on reading copies nothing. */
const RAW_UNIT = 512;
const SUBCLUSTERS = 32;

export interface OpenedDisk {
  readonly disk: Disk;
  /** Lines for standard error. */
  readonly warnings: readonly string[];
}

/** Throws CommandError with the reason alone. The injector acts between the file and the disk. */
export async function openDisk(
  source: DiskSource,
  options: DiskOptions,
  injector: FaultInjector | undefined,
): Promise<OpenedDisk> {
  const { settings, path } = source;
  const forceShare = settings.forceShare ?? options.forceShare;
  if (options.write && settings.readOnly && !options.snapshot) throw new CommandError('Block node is read-only');
  if (options.write && forceShare) throw new CommandError('force-share=on can only be used with read-only images');
  if (!options.write && options.copyOnRead) throw new CommandError("Can't use copy-on-read on read-only device");
  const write = options.write && !options.snapshot;
  const cache = settings.cache ?? options.cache;
  if (options.native && !isDirect(cache)) {
    throw new CommandError('aio=native was specified, but it requires cache.direct=on, which was not specified.');
  }
  const plain = await openFile(path, { write, forceShare, locked: source.locked, cache }).catch((error: unknown) => {
    throw fileReason(path, error);
  });
  const format = source.format ?? (await probeFormat(plain));
  const faulty = injector && new FaultFile(plain, injector, format);
  const file = partOf(faulty ?? plain, source.window);
  const guessed = source.format === undefined && format === 'raw' && write;
  const discard = settings.discard ?? options.discard;
  if (format === 'qcow2' || options.snapshot) {
    const opening = options.snapshot
      ? openTemporaryOverlay(file, path, { format, backing: backingChoice(settings.backing, { forceShare }) })
      : openImageIn(file, path, {
          write,
          forceShare,
          cache,
          ...settings.image,
          ...(await dataFileOf(settings, { write, forceShare, cache }, file)),
          ...watched(faulty, { forceShare, cache }),
          backing: watchedChoice(faulty, backingChoice(settings.backing, { forceShare, cache })),
        });
    const image = await opening.catch((error: unknown) => {
      throw imageReason(path, error);
    });
    if (settings.backing && !options.snapshot && image.info.backingFile === undefined) {
      await image.close();
      throw new CommandError('The image names no backing file in whose place another one could be put');
    }
    const disk = new ImageDisk(image, { discard, detectZeroes: settings.detectZeroes });
    const { clusterSize, extendedL2 } = image.info;
    const unit = extendedL2 ? clusterSize / SUBCLUSTERS : clusterSize;
    return { disk: options.copyOnRead ? new CopyOnReadDisk(disk, unit) : disk, warnings: [] };
  }
  const disk = await openRaw(file, {
    cache,
    discard,
    detectZeroes: settings.detectZeroes,
    guessed,
    name: source.rawName,
  });
  return {
    disk: options.copyOnRead ? new CopyOnReadDisk(disk, RAW_UNIT) : disk,
    warnings: guessed ? guessedRaw(path) : [],
  };
}

function partOf(file: BlockFile, window: RawWindow | undefined): BlockFile {
  return window === undefined ? file : new WindowFile(file, window);
}

/** The data file that the user names instead of the image; `image` is closed when that fails. */
async function dataFileOf(
  { dataFile }: DiskSettings,
  options: FileOptions,
  image: BlockFile,
): Promise<{ dataFile?: BlockFile }> {
  if (dataFile === undefined) return {};
  const { path, locked } = dataFile;
  const plain = await openFile(path, { ...options, locked }).catch(async (error: unknown) => {
    await image.close();
    throw fileReason(path, error);
  });
  return { dataFile: withFaults(plain, dataFile, 'raw') };
}

/** The same for a backing file that the user has chosen. */
function watchedChoice(
  image: FaultFile | undefined,
  choice: BackingChoice | null | undefined,
): BackingChoice | null | undefined {
  const open = choice?.open;
  if (image === undefined || open === undefined) return choice;
  return {
    ...choice,
    async open() {
      const file = await open();
      return new WatchedBacking(file, image, choice?.format ?? (await probeFormat(file)));
    },
  };
}

/** Reads of the backing file are events, too. */
function watched(image: FaultFile | undefined, options: FileOptions): { gate?: OpenGate } {
  if (image === undefined) return {};
  const gate = gateOf(options, image.location ?? '');
  return {
    gate: async (named) => {
      const file = await gate(named);
      if (named.from !== image.location || named.role !== 'backing file') return file;
      return new WatchedBacking(file, image, await probeFormat(file));
    },
  };
}

async function openRaw(file: BlockFile, options: Parameters<typeof RawDisk.open>[1]): Promise<RawDisk> {
  try {
    return await RawDisk.open(file, options);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What keeps a file from being opened; who may be in the way is told in a line of its own. */
function fileReason(path: string, error: unknown): unknown {
  const { cause } = error as { cause?: unknown };
  if (!(cause instanceof CorralError)) return error;
  if (cause.details.reason?.startsWith('Not a regular file')) {
    return new CommandError(`'file' driver requires '${path}' to be a regular file`, 1, { cause });
  }
  if (cause.code !== 'ERR_LOCKED')
    return new CommandError(`Could not open '${path}': ${reasonOf(cause)}`, 1, { cause });
  const lock = cause.message.includes('writing') ? 'shared "write"' : '"write"';
  return new CommandError(`Failed to get ${lock} lock\nIs another process using the image [${path}]?`, 1, { cause });
}

/** What is wrong with an image is said without its name. */
function imageReason(path: string, error: unknown): unknown {
  const about = error instanceof CorralError ? error : (error as { cause?: unknown }).cause;
  const start = `Could not open '${path}': Could not open backing file: `;
  if (error instanceof CommandError && error.message.startsWith(start)) {
    const reason = error.message.slice(`Could not open '${path}': `.length);
    return new CommandError(reason, 1, { cause: error, hints: error.hints });
  }
  if (!(about instanceof CorralError)) return error;
  return new CommandError(headerWords(about) ?? reasonOf(about), 1, { cause: error });
}

function guessedRaw(path: string): string[] {
  return [
    `WARNING: Image format was not specified for '${path}' and probing guessed raw.`,
    '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.',
    "         Specify the 'raw' format explicitly to remove the restrictions.",
  ];
}
