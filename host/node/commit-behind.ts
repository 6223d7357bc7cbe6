/** Writing what an image that is served holds into the file behind it. */
import type { Layer } from '../chain.js';
import { type CommitTarget, commitLayers } from '../commit.js';
import { Image } from '../image.js';
import type { OpenOptions } from '../open-options.js';
import { loadCore } from './core.js';
import type { BackingData } from './helper-messages.js';
import { gateOf } from './may-open.js';
import { nodeCodec } from './node-codec.js';
import { NodeFile } from './node-file.js';

/** The image, and how what it names is opened. */
export type Overlay = Pick<BackingData, 'path' | 'mayOpen' | 'chainDepth' | 'direct'>;

/**
 * Writes what an image holds of its disk into the file behind it, durably. Both are opened from their files: what the image's own
 * engine has in memory must be in its file by now, and nobody else may have the file behind it open for writing.
 *
 * @param bytesPerSecond 0: as many as can be
 * @throws CorralError
 */
export async function commitInto(
  base: { path: string; format: Layer['format'] },
  { path, mayOpen, chainDepth, direct }: Overlay,
  bytesPerSecond: number,
): Promise<void> {
  const common = { core: loadCore(), codec: nodeCodec, chainDepth };
  const file = await NodeFile.open(base.path, { write: true, direct });
  const target =
    base.format === 'raw'
      ? await rawTarget(file)
      : await openIn(file, { ...common, write: true, gate: gateOf(mayOpen, { direct }) });
  try {
    // Its locks, and those of what lies behind it, are this process's own.
    const source = await NodeFile.open(path, { lock: false, direct });
    const image = await openIn(source, { ...common, gate: gateOf(mayOpen, { lock: false, direct }) });
    await commitLayers(image, target, { depth: 1, bytesPerSecond }).finally(() => image.close());
  } finally {
    // What else it keeps, such as bitmaps, is stored then.
    await target.close();
  }
}

async function openIn(file: NodeFile, options: OpenOptions): Promise<Image> {
  return Image.open(file, options).catch(async (error: unknown) => {
    await file.close();
    throw error;
  });
}

async function rawTarget(file: NodeFile): Promise<CommitTarget & { close(): Promise<void> }> {
  let size = await file.size();
  return {
    get size() {
      return size;
    },
    write: (offset, source) => file.write(offset, [source]),
    writeZeroes: (offset, length) => file.writeZeroes(offset, length),
    resize: async (wanted) => {
      await file.truncate(wanted);
      size = wanted;
    },
    flush: () => file.flush(),
    close: () => file.close(),
  };
}
