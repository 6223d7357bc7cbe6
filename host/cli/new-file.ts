/** Making the file of a new image. */

import { existsSync, rmSync } from 'node:fs';
import { Image } from '../image.js';
import { loadCore } from '../node/core.js';
import { NodeFile } from '../node/node-file.js';
import { fillFile, type Preallocation } from '../preallocate.js';
import type { NewImage } from './create-options.js';

const SECTOR = 512n;

/**
 * Makes or overwrites a file, and the one of the guest's data, which may have another name than the image gives it. What the
 * image needs was checked before: once both are open their old content is lost.
 */
export async function makeImage(
  path: string,
  image: NewImage,
  size: bigint,
  dataPath: string | undefined = image.dataFile,
): Promise<void> {
  // Both are opened before either is emptied: one that cannot be had costs nobody the other.
  const data = dataPath === undefined ? undefined : await openUnchanged(dataPath);
  try {
    const file = await NodeFile.open(path, { create: true, overwrite: true });
    try {
      if (image.format === 'raw') await makeRaw(file, size, image.preallocation);
      else await fillImage(file, image, size, data?.file);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (data?.isNew) rmSync(data.file.location, { force: true });
    throw error;
  } finally {
    await data?.file.close();
  }
}

async function fillImage(file: NodeFile, image: NewImage, size: bigint, data: NodeFile | undefined): Promise<void> {
  const { clusterSize, compat, lazyRefcounts, refcountBits, extendedL2, compressionType } = image;
  // Behind the end of an empty file nothing has to be made zeros, which would take space: it becomes as long as the disk.
  const grows = image.preallocation === 'metadata' && !image.dataFileRaw;
  if (data !== undefined) await clearDataFile(data, grows ? 0n : size);
  await Image.create(file, {
    core: loadCore(),
    virtualSize: size,
    clusterSize,
    compat,
    lazyRefcounts,
    refcountBits,
    extendedL2,
    compressionType,
    backingFile: image.backingFile,
    backingFormat: image.backingFormat,
    dataFile: image.dataFile,
    dataFileRaw: image.dataFileRaw,
    preallocation: image.preallocation,
    data,
  });
}

/** Opens a file for writing, or makes it, and leaves what is in it. */
async function openUnchanged(path: string): Promise<{ file: NodeFile; isNew: boolean }> {
  const isNew = !existsSync(path);
  return { file: await NodeFile.open(path, isNew ? { create: true } : { write: true }), isNew };
}

/** The file of the guest's data: all zeros, `size` bytes. */
async function clearDataFile(file: NodeFile, size: bigint): Promise<void> {
  await file.truncate(0);
  await makeRaw(file, size);
  await file.flush();
}

async function makeRaw(file: NodeFile, size: bigint, preallocation?: Preallocation): Promise<void> {
  const length = Number(((size + SECTOR - 1n) / SECTOR) * SECTOR);
  await file.truncate(length);
  const mode = preallocation ?? 'off';
  if (mode !== 'off') await fillFile(file, { mode, offset: 0, length });
}
