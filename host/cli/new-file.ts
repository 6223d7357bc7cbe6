/** Making the file of a new image. */

import { Image } from '../image.js';
import { loadCore } from '../node/core.js';
import { NodeFile } from '../node/node-file.js';
import { fillFile, type Preallocation } from '../preallocate.js';
import type { NewImage } from './create-options.js';

const SECTOR = 512n;

/** Makes or overwrites a file. What it needs was checked before: from here on the old content is lost. */
export async function makeImage(path: string, image: NewImage, size: bigint): Promise<void> {
  const file = await NodeFile.open(path, { create: true, overwrite: true });
  let data: NodeFile | undefined;
  try {
    if (image.format === 'raw') await makeRaw(file, size, image.preallocation);
    else {
      const { clusterSize, compat, lazyRefcounts, refcountBits, extendedL2, compressionType } = image;
      if (image.dataFile !== undefined) data = await makeDataFile(image.dataFile, size);
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
  } finally {
    await data?.close();
    await file.close();
  }
}

/** Makes or overwrites the file of the guest's data: all zeros, as long as the disk. */
async function makeDataFile(path: string, size: bigint): Promise<NodeFile> {
  const file = await NodeFile.open(path, { create: true, overwrite: true });
  try {
    await makeRaw(file, size);
    await file.flush();
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function makeRaw(file: NodeFile, size: bigint, preallocation?: Preallocation): Promise<void> {
  const length = Number(((size + SECTOR - 1n) / SECTOR) * SECTOR);
  await file.truncate(length);
  const mode = preallocation ?? 'off';
  if (mode !== 'off') await fillFile(file, { mode, offset: 0, length });
}
