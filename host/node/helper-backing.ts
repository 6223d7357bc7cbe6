/** What lies behind an image whose engine is on a ring: opened and read by the helper thread. */
import { fstatSync } from 'node:fs';
import type { Backing } from '../engine.js';
import { CorralError } from '../errors.js';
import { Image } from '../image.js';
import type { ImageFacts } from '../image-facts.js';
import { closedGate, type OpenGate } from '../open-gate.js';
import { loadCore } from './core.js';
import type { BackingData, MayOpen } from './helper-messages.js';
import { nodeCodec } from './node-codec.js';
import { identityOf } from './node-file.js';
import { pathGate } from './path-gate.js';

/** A disk that is only read. */
export interface Behind extends Backing {
  close(): Promise<void>;
}

/** Opens the chain behind the image that a descriptor is of. Rejects with a CorralError. */
export async function openBehind(descriptor: number, data: BackingData): Promise<Behind> {
  if (data.ignore) return nothing;
  const { path, facts, write, chainDepth } = data;
  const file = { identity: identityOf(fstatSync(descriptor)), location: path };
  const gate = gateOf(data.mayOpen);
  const layer = await Image.openBehind(file, facts, { core: loadCore(), codec: nodeCodec, write, gate, chainDepth });
  return {
    read: (offset, target) =>
      layer.read(offset, target).catch((error: Error) => Promise.reject(behindError(facts, error))),
    close: () => layer.close(),
  };
}

/** What is wrong behind the image is not wrong with the image. */
function behindError({ backingFile }: ImageFacts, error: Error): CorralError {
  return new CorralError('ERR_IO', { reason: `Backing file '${backingFile}': ${error.message}` });
}

const nothing: Behind = {
  read: async (_, target) => void target.fill(0),
  close: async () => {},
};

function gateOf(mayOpen: MayOpen | undefined): OpenGate {
  if (mayOpen === undefined) return closedGate;
  return mayOpen === 'any' ? pathGate() : pathGate({ only: mayOpen });
}
