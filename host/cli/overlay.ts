/** An overlay over a base, made when it is missing. */

import { existsSync } from 'node:fs';
import { link, realpath, unlink } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { ImageFacts } from '../image-facts.js';
import { newImage } from './create-options.js';
import { makeImage } from './new-file.js';
import { openFile, openImageIn, probeFormat } from './open.js';
import { CommandError, escapeText, reasonOf } from './output.js';

/**
 * Makes sure that `overlay` is an image whose disk continues from the image `base`, which stays as it is. A new one is
 * there only when it is whole, and takes no other file's place. Throws `CommandError`; nothing has changed then.
 */
export async function ensureOverlay(base: string, overlay: string): Promise<void> {
  if (existsSync(overlay)) return refuseOtherBase(base, overlay);
  const file = await openFile(base);
  if ((await probeFormat(file)) !== 'qcow2') {
    await file.close();
    throw new CommandError(
      `'${escapeText(base)}' is no qcow2 image: for an overlay over a raw disk see corral create -b FILE -F raw`,
    );
  }
  const image = await openImageIn(file, base, { requestCapacity: 1 });
  const size = BigInt(image.size);
  await image.close();
  const unfinished = `${overlay}.${process.pid}.unfinished`;
  try {
    const behind = { backing: await realpath(base), backingFormat: 'qcow2' };
    await makeImage(unfinished, newImage(overlay, 'qcow2', [], behind), size);
    await link(unfinished, overlay);
  } catch (error) {
    throw new CommandError(`Could not create '${escapeText(overlay)}': ${reasonOf(error)}`, 1, { cause: error });
  } finally {
    await unlink(unfinished).catch(() => {});
  }
}

async function refuseOtherBase(base: string, overlay: string): Promise<void> {
  const image = await openImageIn(await openFile(overlay), overlay, { inspect: true, requestCapacity: 1 });
  const { backingFile } = image.info;
  await image.close();
  const same = await isBase(backingFile, base, overlay);
  if (!same) {
    const found = backingFile === undefined ? 'has no backing file' : `continues from '${escapeText(backingFile)}'`;
    throw new CommandError(`'${escapeText(overlay)}' ${found}, not from '${escapeText(base)}'`);
  }
}

async function isBase(name: ImageFacts['backingFile'], base: string, overlay: string): Promise<boolean> {
  if (name === undefined) return false;
  const path = resolve(dirname(overlay), name);
  return (await realpath(path).catch(() => path)) === (await realpath(base));
}
