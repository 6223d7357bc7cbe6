/** What lies behind an image whose engine is on a ring: opened and read by the helper thread. */
import { fstatSync } from 'node:fs';
import type { Layer } from '../chain.js';
import { type CommitTarget, commitLayers } from '../commit.js';
import type { Backing } from '../engine-options.js';
import { CorralError } from '../errors.js';
import { Image } from '../image.js';
import type { ImageFacts } from '../image-facts.js';
import type { LayerPool } from '../layer-pool.js';
import type { OpenOptions } from '../open-options.js';
import { loadCore } from './core.js';
import type { BackingData } from './helper-messages.js';
import { gateOf } from './may-open.js';
import { nodeCodec } from './node-codec.js';
import { identityOf, NodeFile } from './node-file.js';

/** A disk that is only read, but for `commit`. */
export interface Behind extends Backing {
  /**
   * Writes what the image holds of the disk into what lies behind it, which is opened anew for that, and anew again
   * afterwards. Nobody may read meanwhile, nor write to the image.
   */
  commit(bytesPerSecond: number): Promise<void>;
  close(): Promise<void>;
}

/** Opens the chain behind the image that a descriptor is of; of the pool, what is there already. Rejects with a CorralError. */
export async function openBehind(descriptor: number, data: BackingData, layers: LayerPool): Promise<Behind> {
  const { path, facts, write, chainDepth } = data;
  const file = { identity: identityOf(fstatSync(descriptor)), location: path };
  const gate = gateOf(data.mayOpen, { direct: data.direct });
  const options = { core: loadCore(), codec: nodeCodec, write, gate, chainDepth, layers };
  const open = (): Promise<Layer> =>
    Image.openBehind(file, facts, options).catch((error: unknown) => Promise.reject(named(error)));
  let layer = await open();
  return {
    read: (offset, target) =>
      layer.read(offset, target).catch((error: Error) => Promise.reject(behindError(facts, error))),
    async commit(bytesPerSecond) {
      const { location, format } = layer;
      if (location === undefined) throw new CorralError('ERR_UNSUPPORTED', { reason: 'Its backing file has no path' });
      await layer.close();
      try {
        await commitInto({ path: location, format }, data, bytesPerSecond);
      } catch (error) {
        throw named(error);
      } finally {
        layer = await open();
      }
    },
    close: () => layer.close(),
  };
}

/** Both are opened from their files: what the image's own engine has in memory is in its file by now. */
async function commitInto(
  base: { path: string; format: Layer['format'] },
  { path, mayOpen, chainDepth, direct }: BackingData,
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

/** The error about a file, with the file's name in the reason: the caller puts the image's name before that. */
function named(error: unknown): unknown {
  if (!(error instanceof CorralError) || error.details.path === undefined) return error;
  const { path, ...details } = error.details;
  return new CorralError(error.code, { ...details, reason: `Could not open backing file ${error.message}` });
}

/** What is wrong behind the image is not wrong with the image. */
function behindError({ backingFile }: ImageFacts, error: Error): CorralError {
  return new CorralError('ERR_IO', { reason: `Backing file '${backingFile}': ${error.message}` });
}
