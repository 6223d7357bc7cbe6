/** Disks from one file of a page to another, whatever the formats, without holding them in memory. */

import type { BlockFile } from '../host/block-file.js';
import { type Codec, checkLevel } from '../host/codec/codec.js';
import { type CopyTarget, convert, imageTarget } from '../host/convert.js';
import { type CopySource, fileSource, imageSource } from '../host/convert-source.js';
import type { CreateImageOptions } from '../host/create-image.js';
import { cancelled } from '../host/errors.js';
import { Image } from '../host/image.js';
import { browserCodec, refuseToCompress } from './browser-codec.js';
import { type BrowserOpenOptions, openIn } from './open.js';
import { OpfsFile, type SyncAccessFile } from './opfs-file.js';
import { SharedFile } from './shared-file.js';
import { openSaveTarget } from './writable-file.js';

export interface ConvertFileOptions {
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** What a new image is to be. */
export interface NewImageOptions extends Omit<CreateImageOptions, 'virtualSize'> {
  /** Clusters are compressed, where that makes them smaller; with zlib only. Default: false. */
  readonly compress?: boolean | undefined;
  /** 1 to 9; default: that of the library. */
  readonly compressionLevel?: number | undefined;
  readonly codec?: Codec;
}

/** A disk to be copied, and what has to be closed after that. */
export interface OpenDisk {
  readonly disk: CopySource;
  close(): Promise<void>;
}

const SECTOR = 512;
const MAGIC = [0x51, 0x46, 0x49, 0xfb];

/** The disk in a file, which is closed with it, also when this fails. Without a format the file's first bytes say it. */
export async function openDisk(
  file: BlockFile,
  format: 'raw' | 'qcow2' | undefined,
  options: BrowserOpenOptions,
): Promise<OpenDisk> {
  if ((format ?? (await probe(file))) === 'qcow2') {
    const image = await openIn(file, options);
    return { disk: imageSource(image), close: () => image.close() };
  }
  const length = Math.ceil((await file.size()) / SECTOR) * SECTOR;
  return { disk: fileSource(file, length), close: () => file.close() };
}

/**
 * Writes the disk into the file, byte by byte; what was in there is lost. A file that was chosen to save to changes only when
 * all of it is there; one of the private file system is empty when this fails.
 */
export async function saveRaw(
  disk: CopySource,
  handle: FileSystemFileHandle,
  options: ConvertFileOptions,
): Promise<void> {
  const target = await openSaveTarget(handle);
  try {
    await copy(disk, target, options);
  } catch (error) {
    await target.abandon();
    throw error;
  }
  await target.finish(disk.length);
}

/** As `saveRaw`, of an open image, in the thread of the caller. */
export function exportRaw(image: Image, handle: FileSystemFileHandle, options: ConvertFileOptions = {}): Promise<void> {
  return saveRaw(imageSource(image), handle, options);
}

/**
 * Writes the disk into a new image in the file; what was in there is lost. Images are made in the private file system: a
 * file elsewhere gets its bytes from there, and there must be room for both.
 */
export async function saveImage(
  disk: CopySource,
  handle: FileSystemFileHandle,
  create: NewImageOptions,
  options: ConvertFileOptions,
): Promise<void> {
  // Before anything is emptied.
  if (create.compress) refuseToCompress(create.compressionType ?? 'zlib');
  checkLevel('zlib', create.compressionLevel);
  const root = await navigator.storage.getDirectory();
  if ((await root.resolve(handle)) !== null) return makeImage(disk, handle, create, options);
  const name = `corral-${crypto.randomUUID()}`;
  const temporary = await root.getFileHandle(name, { create: true });
  try {
    await makeImage(disk, temporary, create, options);
    const made = await temporary.getFile();
    await made.stream().pipeTo(await handle.createWritable(), { signal: options.signal });
  } finally {
    await root.removeEntry(name);
  }
}

async function makeImage(
  disk: CopySource,
  handle: FileSystemFileHandle,
  { compress, compressionLevel, codec = browserCodec, ...create }: NewImageOptions,
  options: ConvertFileOptions,
): Promise<void> {
  const file = await OpfsFile.open(handle as SyncAccessFile, { write: true });
  let image: Image | undefined;
  try {
    await file.truncate(0);
    await Image.create(file, { ...create, virtualSize: disk.length });
    // Closed below, when all of it has been written or nothing is to be left.
    image = await Image.open(new SharedFile(file), { core: create.core, codec, compressionLevel, write: true });
    await copy(disk, imageTarget(image, { compress }), options);
    if (options.signal?.aborted) throw cancelled(options.signal);
    await image.close();
  } catch (error) {
    // Half of a disk must not pass for one.
    await file.truncate(0).catch(() => undefined);
    throw error;
  } finally {
    await file.close();
  }
}

/** Into a target that holds nothing yet. */
function copy(disk: CopySource, target: CopyTarget, options: ConvertFileOptions): Promise<void> {
  // Where no threads may share memory, whole clusters are handed from one to the other.
  const sharedMemory = globalThis.crossOriginIsolated === true;
  return convert(disk, target, { ...options, sharedMemory, targetIsZero: true });
}

async function probe(file: BlockFile): Promise<'raw' | 'qcow2'> {
  const start = new Uint8Array(MAGIC.length);
  await file.read(0, start);
  return MAGIC.every((byte, index) => start[index] === byte) ? 'qcow2' : 'raw';
}
