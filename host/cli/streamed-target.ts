/** A copy that goes to standard output in one pass, where that can be. */

import type { CopySource } from '../convert-source.js';
import { diskBytes, imageBytes, layOut } from '../image-stream.js';
import { loadCore } from '../node/core.js';
import { NodeFile } from '../node/node-file.js';
import type { CopyOptions } from './copy-target.js';
import type { NewImage } from './create-options.js';
import { makeImage } from './new-file.js';
import { sendBytes } from './standard-streams.js';

/**
 * Sends a new image with the disk of the source. False: nothing was sent, as where everything lies is not known before all of it
 * has been made: compressed clusters, bitmaps, and what comes over a backing file or into a data file.
 *
 * @param path where the image's tables lie meanwhile
 */
export async function sendImage(
  source: CopySource,
  image: NewImage,
  { path, options, signal }: { path: string; options: CopyOptions; signal: AbortSignal },
): Promise<boolean> {
  const { preallocation = 'off', backingFile, dataFile, extendedL2, format } = image;
  const { compress, bitmaps, rate, sparseSize } = options;
  const isPlain = preallocation === 'off' && backingFile === undefined && dataFile === undefined;
  if (!isPlain || compress || bitmaps !== undefined || rate !== undefined || sparseSize === 0) return false;
  if (extendedL2) return false;
  if (format === 'raw') {
    await sendBytes(diskBytes(source, signal), signal);
    return true;
  }
  await makeImage(path, image, BigInt(source.length));
  const tables = await NodeFile.open(path, { write: true });
  try {
    const how = { core: loadCore(), signal };
    if (!(await layOut(tables, source, how))) return false;
    await sendBytes(imageBytes(tables, source, how), signal);
    return true;
  } finally {
    await tables.close();
  }
}
