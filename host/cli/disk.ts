/** A disk that the command line names, whatever its format: opened in QEMU's way, and with its words when that fails. */

import { type BlockFile, stretchesOf } from '../block-file.js';
import { isDirect, isWriteThrough } from '../cache-mode.js';
import type { BackingChoice } from '../chain.js';
import type { ChainExtent } from '../chain-map.js';
import { mapChain } from '../chain-map.js';
import { CorralError } from '../errors.js';
import type { Image } from '../image.js';
import type { LayerPools } from '../layer-pool.js';
import { NodeFile } from '../node/node-file.js';
import type { SnapshotSelection } from '../snapshot-record.js';
import type { Format } from './arguments.js';
import { withFaults } from './faults.js';
import { type BackingNode, type ImageName, type NameOptions, readImageName } from './image-name.js';
import { cacheModeOf, isDetected } from './node-options.js';
import { type FileOptions, isUrl, openFile, openImageIn, probeFormat } from './open.js';
import { CommandError, type Terminal } from './output.js';
import { refuseFixed, windowIn } from './raw-window.js';

export interface DiskOptions extends NameOptions, FileOptions {
  /** Read this internal snapshot. */
  readonly snapshot?: SnapshotSelection | string | undefined;
  /** Only tables will be read or changed: what lies behind the image may be missing. */
  readonly tablesOnly?: boolean;
  /** Somebody else here locks what lies behind the image. */
  readonly unlockedBacking?: boolean;
  /** Nothing of the disk itself matters: what lies behind the image stays closed. */
  readonly backingUnused?: boolean;
  /** Where layers are that other disks have behind them, too. */
  readonly layers?: LayerPools | undefined;
  /** Level of compressed writes. */
  readonly compressionLevel?: number | undefined;
  /** Told when a format was guessed that may be wrong. */
  readonly terminal?: Terminal;
}

/** An open disk. Numbers are bytes. */
export interface Disk {
  /** As the command line names it. */
  readonly name: ImageName;
  readonly format: Format;
  /** Whole sectors. */
  readonly size: number;
  /** The image, if it is one. */
  readonly image: Image | undefined;
  readonly file: BlockFile;
  read(offset: number, target: Uint8Array): Promise<void>;
  write(offset: number, source: Uint8Array): Promise<void>;
  /** With `unmap` what lies there gives its space back. */
  writeZeroes(offset: number, length: number, options?: { unmap?: boolean }): Promise<void>;
  /** Makes the disk longer; what is new reads as zeros. */
  resize(size: number): Promise<void>;
  flush(): Promise<void>;
  /** What the disk consists of, through all layers. */
  extents(options?: { offset?: number; length?: number }): AsyncIterable<ChainExtent>;
  close(): Promise<void>;
}

/** Opens a disk. Throws `CommandError`. */
export async function openDisk(text: string, options: DiskOptions = {}): Promise<Disk> {
  const name = readImageName(text, options);
  const { generic } = name;
  const refuse = (reason: string): never => {
    throw new CommandError(`Could not open '${text}': ${reason}`);
  };
  if (options.write && generic.readOnly) refuse('Block node is read-only');
  if (options.write && (generic.forceShare || options.forceShare))
    refuse('force-share=on can only be used with read-only images');
  const forceShare = options.forceShare || generic.forceShare === true;
  const cache = cacheModeOf(generic, options.cache);
  const sync = name.format !== 'qcow2' && options.write === true && isWriteThrough(cache);
  const { terminal } = options;
  const warn = terminal === undefined ? undefined : (line: string) => terminal.note(`Note: ${line}`);
  const access = { ...options, forceShare, cache, name: text, sync, locked: name.locked, warn };
  const plain = await openFile(name.path, access);
  const format = name.format ?? (await probeFormat(plain));
  const file = withFaults(plain, name, format);
  if (format === 'raw') {
    if (name.format === undefined && options.write) warnOfGuess(text, options.terminal);
    try {
      if (options.snapshot !== undefined) {
        throw new CommandError(
          "Failed to load snapshot: Block format 'raw' used by device '' does not support temporarily loading internal snapshots",
        );
      }
      if (name.backing) refuse("Driver doesn't support backing files");
      if (name.dataFile !== undefined) refuse("'data-file' can only be set for images with an external data file");
    } catch (error) {
      await file.close();
      throw error;
    }
    return rawDisk(name, file);
  }
  const image = await openImage(name, file, access).catch((error: unknown) => {
    throw missingSnapshot(error, options);
  });
  if (name.backing && image.info.backingFile === undefined) {
    await image.close();
    refuse('The image names no backing file in whose place another one could be put');
  }
  return imageDisk(name, file, image);
}

async function openImage(name: ImageName, file: BlockFile, access: DiskOptions): Promise<Image> {
  const { dataFile, settings } = name;
  const { snapshot, compressionLevel, tablesOnly = false, unlockedBacking, backingUnused, layers, ...around } = access;
  const { forceShare, noBacking, cache } = around;
  let data: BlockFile | undefined;
  if (dataFile !== undefined) {
    const plain = await openFile(dataFile.path, { ...around, locked: dataFile.locked }).catch(
      async (error: unknown) => {
        await file.close();
        throw error;
      },
    );
    data = withFaults(plain, dataFile, 'raw');
  }
  return openImageIn(file, name.path, {
    ...around,
    ...settings,
    ...(unlockedBacking ? { forceShare: true } : {}),
    ...(data === undefined ? {} : { dataFile: data }),
    ...(snapshot === undefined ? {} : { snapshot }),
    ...(compressionLevel === undefined ? {} : { compressionLevel }),
    layers: layers?.under(forceShare || unlockedBacking, noBacking, isDirect(cache), isUrl(name.path)),
    backing: backingUnused
      ? null
      : backingChoice(name.backing, { ...around, forceShare: around.forceShare || unlockedBacking === true }),
    tablesOnly,
  });
}

/** What the command line says of the layers behind an image, for the library. */
export function backingChoice(
  node: BackingNode | null | undefined,
  { forceShare, cache }: Pick<FileOptions, 'forceShare' | 'cache'>,
): BackingChoice | null | undefined {
  if (node === undefined || node === null) return node;
  const { file, format } = node;
  const opens = { write: false, lock: !forceShare && file?.locked !== false, direct: isDirect(cache) };
  return {
    format,
    open: file && (async () => withFaults(await NodeFile.open(file.path, opens), file, format ?? 'qcow2')),
    backing: backingChoice(node.backing, { forceShare, cache }),
  };
}

/** In QEMU's words, where it is the snapshot that is missing. */
function missingSnapshot(error: unknown, { snapshot }: DiskOptions): unknown {
  const cause = error instanceof CommandError ? error.cause : undefined;
  const isMissing = cause instanceof CorralError && cause.code === 'ERR_NOT_FOUND' && cause.details.path === undefined;
  if (snapshot === undefined || !isMissing || cause.details.backingFile !== undefined) return error;
  return new CommandError("Failed to load snapshot: Can't find snapshot", 1, { cause: error });
}

/** Whoever may write a raw disk could make it look like something else, or the other way round. */
export function warnOfGuess(text: string, terminal: Terminal | undefined): void {
  terminal?.note(`WARNING: Image format was not specified for '${text}' and probing guessed raw.`);
  terminal?.note(
    '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.',
  );
  terminal?.note("         Specify the 'raw' format explicitly to remove the restrictions.");
}

async function placeIn(
  { text, window }: ImageName,
  file: BlockFile,
  fileLength: number,
): Promise<{ offset: number; size: number }> {
  try {
    return windowIn(window, fileLength);
  } catch (error) {
    await file.close();
    throw error instanceof CommandError ? new CommandError(`Could not open '${text}': ${error.message}`) : error;
  }
}

async function rawDisk(name: ImageName, file: BlockFile): Promise<Disk> {
  const fileLength = await file.size();
  const { offset: base, size } = await placeIn(name, file, fileLength);
  return {
    name,
    format: 'raw',
    size,
    image: undefined,
    file,
    read: (offset, target) => file.read(base + offset, target),
    write: (offset, source) =>
      isDetected(name.generic.detectZeroes, source)
        ? file.writeZeroes(base + offset, source.length)
        : file.write(base + offset, [source]),
    async writeZeroes(offset, count, { unmap = false } = {}) {
      await file.writeZeroes(base + offset, count);
      // What is zeros by now may be a hole.
      if (unmap) await file.discard(base + offset, count);
    },
    async resize(length) {
      refuseFixed(name.window);
      await file.truncate(base + length);
    },
    flush: () => file.flush(),
    async *extents({ offset = 0, length: wanted = size - offset } = {}) {
      const whole = Math.min(wanted, size - offset);
      if (whole <= 0) return;
      const range = { offset: base + offset, length: whole, fileLength };
      for (const { offset: hostOffset, length: count, hole } of stretchesOf(file, range)) {
        const kind = hole ? 'zero' : 'data';
        const place = { kind, allocated: true, hostOffset, depth: 0, layer: undefined } as const;
        yield { ...place, offset: hostOffset - base, length: count };
      }
    },
    close: () => file.close(),
  };
}

function imageDisk(name: ImageName, file: BlockFile, image: Image): Disk {
  const { detectZeroes } = name.generic;
  return {
    name,
    format: 'qcow2',
    get size() {
      return image.size;
    },
    image,
    file,
    read: (offset, target) => image.read(offset, target),
    write: (offset, source) =>
      isDetected(detectZeroes, source)
        ? image.writeZeroes(offset, source.length, { unmap: detectZeroes === 'unmap' })
        : image.write(offset, source),
    writeZeroes: (offset, length, options) => image.writeZeroes(offset, length, options),
    resize: (length) => image.resize(length),
    flush: () => image.flush(),
    extents: ({ offset = 0, length = image.size - offset } = {}) =>
      mapChain(image, { offset, length: Math.min(length, image.size - offset) }),
    close: () => image.close(),
  };
}
