/** Committing an image of the private file system into its backing file. */

import type { BlockFile } from '../host/block-file.js';
import { commitLayers, makeEmpty } from '../host/commit.js';
import { CorralError } from '../host/errors.js';
import { Image } from '../host/image.js';
import type { OpenGate } from '../host/open-gate.js';
import type { ConvertFileOptions } from './convert-file.js';
import { OpfsFile, type SyncAccessFile } from './opfs-file.js';
import { SharedFile } from './shared-file.js';

export interface CommitFileOptions extends ConvertFileOptions {
  core: WebAssembly.Module;
  /** Opens what lies behind the backing file. */
  gate?: OpenGate | undefined;
}

/**
 * Writes what the overlay has of the disk into its backing file, an image; then empties the overlay. Cut off in the middle,
 * the overlay still holds the disk. Rejects with ERR_UNSUPPORTED when the overlay has no such backing file.
 */
export async function commitFile(
  overlay: FileSystemFileHandle,
  base: FileSystemFileHandle,
  options: CommitFileOptions,
): Promise<void> {
  const overlayFile = await OpfsFile.open(overlay as SyncAccessFile, { write: true });
  try {
    const baseFile = await OpfsFile.open(base as SyncAccessFile, { write: true });
    try {
      await commit(overlayFile, baseFile, options);
    } finally {
      await baseFile.close();
    }
  } finally {
    await overlayFile.close();
  }
}

async function commit(overlayFile: BlockFile, baseFile: BlockFile, options: CommitFileOptions): Promise<void> {
  const { core, gate, onProgress, signal } = options;
  // Both the target and the overlay's chain read this file.
  const open = async (): Promise<BlockFile> => new SharedFile(baseFile, true);
  const image = await Image.open(new SharedFile(overlayFile), { core, write: true, gate, backing: { open } });
  try {
    if (image.backing?.format !== 'qcow2') {
      const reason = 'Only what continues from another image can be committed into that';
      throw new CorralError('ERR_UNSUPPORTED', { path: overlayFile.location, reason });
    }
    const target = await Image.open(new SharedFile(baseFile), { core, write: true, gate });
    try {
      await commitLayers(image, target, { depth: 1, onProgress, signal });
    } finally {
      // What else it keeps is stored then; the overlay may be emptied after that only.
      await target.close();
    }
    await makeEmpty(image, { signal });
  } finally {
    await image.close();
  }
}
