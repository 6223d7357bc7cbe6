/** The files of one mutant: the image, and what it names. Each of them judges what is done to it. */

import { CorralError } from '../../host/errors.js';
import type { OpenOptions } from '../../host/open-options.js';
import { BACKING_NAME, type Original } from './originals.js';
import { type FileLimits, WatchedFile } from './watched-file.js';

/** What an image without a backing file may be given. */
export const OTHER_BACKING_NAME = 'other';
const OTHER_BACKING = new Uint8Array(30_000).fill(3);
/** Room that the storage has beyond what is there. */
const GROWTH = 1 << 20;

export class MutantFiles {
  image: WatchedFile;
  data: WatchedFile | undefined;
  private readonly behind: WatchedFile[] = [];

  /** @param bytes the mutant, which belongs to it from here on */
  constructor(
    private readonly original: Original,
    bytes: Uint8Array,
    private readonly clusterSize: number,
  ) {
    this.image = new WatchedFile(bytes, imageLimits(bytes.length, clusterSize, false));
    this.data = this.watchData(original.data?.slice(), false);
  }

  /** From here on other limits hold, and calls count from zero. */
  restart(write: boolean): void {
    this.image.restart(imageLimits(this.image.end, this.clusterSize, write));
    this.data?.restart(this.dataLimits(this.data.end, write));
  }

  /** Whoever still has them goes on in files that nobody looks at. */
  leave(): void {
    this.image = new WatchedFile(this.image.contents(), imageLimits(this.image.end, this.clusterSize, false));
    this.data = this.watchData(this.data?.contents(), false);
  }

  /** What the image needs to be opened. */
  options(): Pick<OpenOptions, 'dataFile' | 'gate'> {
    const { backing } = this.original;
    return {
      dataFile: this.data,
      gate: async ({ name }) => {
        const bytes = name === BACKING_NAME ? backing : name === OTHER_BACKING_NAME ? OTHER_BACKING : undefined;
        if (bytes === undefined) throw new CorralError('ERR_NOT_FOUND', { reason: name });
        const file = new WatchedFile(bytes.slice(), imageLimits(bytes.length, this.clusterSize, false));
        this.behind.push(file);
        return file;
      },
    };
  }

  /** The first thing that was done and must never be. */
  get offence(): string | undefined {
    if (this.image.offence !== undefined) return this.image.offence;
    if (this.data?.offence !== undefined) return `data file: ${this.data.offence}`;
    const behind = this.behind.find(({ offence }) => offence !== undefined);
    return behind === undefined ? undefined : `backing file: ${behind.offence}`;
  }

  private watchData(bytes: Uint8Array | undefined, write: boolean): WatchedFile | undefined {
    return bytes === undefined ? undefined : new WatchedFile(bytes, this.dataLimits(bytes.length, write));
  }

  /** Its bytes lie where the guest has them: how long it may become only the image says. */
  private dataLimits(length: number, write: boolean): FileLimits {
    return { ...imageLimits(length, this.clusterSize, write), length: Number.MAX_SAFE_INTEGER };
  }
}

function imageLimits(length: number, clusterSize: number, write: boolean): FileLimits {
  // A refcount block full of nonsense says that all its clusters are in use: the next one that is free lies behind
  // them. One such block costs a byte range, not space; there cannot be more of them than clusters in the file.
  const clusters = Math.ceil(length / clusterSize);
  const countedByBlock = clusterSize * 8 * clusterSize;
  return {
    write,
    capacity: length + GROWTH,
    length: (clusters + 2) * countedByBlock,
    clusterSize,
    // A check with little memory walks all tables several times; a verb that was asked for a larger table fills what room
    // there is. An entry of 8 bytes that names a place beyond the file costs its own look at the refcounts: an L1 table of
    // garbage is that many.
    calls: 4000 + Math.ceil(length / 4 + (write ? GROWTH / 32 : 0)),
  };
}
