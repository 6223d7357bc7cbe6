/** What lies behind an image whose engine is on a ring: opened and read by the helper thread. */
import { fstatSync } from 'node:fs';
import type { Backing } from '../engine.js';
import { CorralError } from '../errors.js';
import { Image } from '../image.js';
import type { ImageFacts } from '../image-facts.js';
import { loadCore } from './core.js';
import type { BackingData } from './helper-messages.js';
import { gateOf } from './may-open.js';
import { nodeCodec } from './node-codec.js';
import { identityOf } from './node-file.js';

/** A disk that is only read. */
export interface Behind extends Backing {
  close(): Promise<void>;
}

/** Opens the chain behind the image that a descriptor is of. Rejects with a CorralError. */
export async function openBehind(descriptor: number, data: BackingData): Promise<Behind> {
  const { path, facts, write, chainDepth } = data;
  const file = { identity: identityOf(fstatSync(descriptor)), location: path };
  const gate = gateOf(data.mayOpen, data.direct);
  const options = { core: loadCore(), codec: nodeCodec, write, gate, chainDepth };
  const layer = await Image.openBehind(file, facts, options).catch((error: unknown) => Promise.reject(named(error)));
  return {
    read: (offset, target) =>
      layer.read(offset, target).catch((error: Error) => Promise.reject(behindError(facts, error))),
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
