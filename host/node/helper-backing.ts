/** What lies behind an image whose engine is on a ring: opened and read by the helper thread. */
import { fstatSync } from 'node:fs';
import type { Layer } from '../chain.js';
import type { Backing } from '../engine-options.js';
import { CorralError } from '../errors.js';
import { Image } from '../image.js';
import type { ImageFacts } from '../image-facts.js';
import type { LayerPool } from '../layer-pool.js';
import { commitInto } from './commit-behind.js';
import { loadCore } from './core.js';
import type { BackingData } from './helper-messages.js';
import { gateOf } from './may-open.js';
import { nodeCodec } from './node-codec.js';
import { identityOf } from './node-file.js';

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
