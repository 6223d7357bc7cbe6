/** Opening an image with the files that it names: the core is asked, says what is missing, and is asked again. */

import type { BlockFile } from './block-file.js';
import type { Layer } from './chain.js';
import { Engine, type EngineRequest } from './engine.js';
import type { Backing } from './engine-options.js';
import { CorralError } from './errors.js';
import { type ImageFacts, readFacts } from './image-facts.js';
import { checkFacts, engineOptionsOf, isAbout, type OpenOptions, openRequest } from './open-options.js';

/** What an open image consists of. */
export interface StartedImage {
  readonly engine: Engine;
  readonly info: ImageFacts;
  readonly backing: Layer | undefined;
  readonly dataFile: BlockFile | undefined;
  /** The request that has opened it, for another time. */
  readonly request: EngineRequest<ImageFacts>;
}

export interface Surroundings {
  readonly write: boolean;
  /** Identities of the files above this one. */
  readonly above: readonly string[];
  /** Opens what lies behind the image. */
  openBacking(facts: ImageFacts): Promise<Layer>;
}

/** The disk behind an image that is to have none. */
const NOTHING: Backing = {
  async read(_offset, target) {
    target.fill(0);
  },
};

/** On failure every file is closed that was opened here; `file`, and the data file of the options, stay the caller's. */
export async function startImage(file: BlockFile, options: OpenOptions, around: Surroundings): Promise<StartedImage> {
  const request = openRequest(options, around.write);
  let engineOptions = engineOptionsOf(options);
  let backing: Layer | undefined;
  let opened: BlockFile | undefined;
  try {
    while (true) {
      const engine = await Engine.start(file, engineOptions);
      let info: ImageFacts;
      try {
        info = await engine.run(request);
      } catch (error) {
        // Nothing has changed yet: the core asks for a host that has what the image names.
        const facts =
          isAbout(error, 'external data file') || isAbout(error, 'backing file') ? readFacts(engine.core) : undefined;
        if (
          isAbout(error, 'external data file') &&
          engineOptions.dataFile === undefined &&
          facts?.dataFile !== undefined
        ) {
          opened = await openDataFile(facts.dataFile, file, options, around);
          if (opened === undefined) throw error;
          engineOptions = { ...engineOptions, dataFile: opened };
        } else if (isAbout(error, 'backing file') && engineOptions.backing === undefined && facts !== undefined) {
          if (options.backing !== null) backing = await around.openBacking(facts);
          engineOptions = { ...engineOptions, backing: backing ?? NOTHING };
        } else {
          throw error;
        }
        continue;
      }
      checkFacts(info, options);
      const { signal: _, ...again } = request;
      return { engine, info, backing, dataFile: engineOptions.dataFile, request: again };
    }
  } catch (error) {
    await backing?.close();
    await opened?.close();
    throw error;
  }
}

/** Through the gate, as all that an image names; undefined when there is no gate. */
async function openDataFile(
  name: string,
  { identity, location }: BlockFile,
  { gate }: OpenOptions,
  { write, above }: Surroundings,
): Promise<BlockFile | undefined> {
  if (gate === undefined) return undefined;
  const around = identity === undefined ? above : [...above, identity];
  const opened = await gate({ role: 'data file', name, from: location, write, above: around });
  if (opened.identity === undefined || !around.includes(opened.identity)) return opened;
  await opened.close();
  throw new CorralError('ERR_IMAGE_CORRUPT', { reason: `The data file '${name}' is an image of this chain` });
}
