/** An image in a temporary file that takes all writes, over a disk that stays as it is. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { BlockFile } from '../../block-file.js';
import type { BackingChoice } from '../../chain.js';
import { Image } from '../../image.js';
import { loadCore } from '../../node/core.js';
import { nodeCodec } from '../../node/node-codec.js';
import { NodeFile } from '../../node/node-file.js';
import { pathGate } from '../../node/path-gate.js';

const SECTOR = 512;

/** The file belongs to the image from here on, and is closed when that fails. */
export async function openTemporaryOverlay(
  base: BlockFile,
  path: string,
  { format, backing }: { format: 'raw' | 'qcow2'; backing: BackingChoice | null | undefined },
): Promise<Image> {
  let file: NodeFile | undefined;
  try {
    file = await temporaryFile();
    const core = loadCore();
    const virtualSize = await diskSize(base, format);
    await Image.create(file, { core, virtualSize, backingFile: resolve(path), backingFormat: format });
    return await Image.open(file, {
      core,
      codec: nodeCodec,
      write: true,
      gate: pathGate(),
      backing: { open: async () => base, format, backing },
    });
  } catch (error) {
    await file?.close();
    await base.close().catch(() => {});
    throw error;
  }
}

async function diskSize(base: BlockFile, format: 'raw' | 'qcow2'): Promise<number> {
  if (format === 'raw') return Math.ceil((await base.size()) / SECTOR) * SECTOR;
  // Not closed: that would close the file.
  const image = await Image.open(base, { core: loadCore(), inspect: true, requestCapacity: 1, cacheSize: 0 });
  return image.size;
}

/** It has no name any more. */
async function temporaryFile(): Promise<NodeFile> {
  const folder = mkdtempSync(join(tmpdir(), 'corral-io-'));
  try {
    return await NodeFile.open(join(folder, 'overlay.qcow2'), { create: true, lock: false });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
