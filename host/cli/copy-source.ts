/** Where the bytes of a copy come from: one disk or several, with errors that say which. */

import { type CopySource, fileSource, imageSource } from '../convert-source.js';
import { CorralError, systemErrorCode } from '../errors.js';
import type { Disk } from './disk.js';
import { CommandError, reasonOf, type Terminal } from './output.js';

/** Bytes that are given up together where reading fails. */
const SALVAGED = 65536;

export interface SourceOptions {
  /** Only what the image itself has: what lies behind it will lie behind the copy. */
  readonly topOnly?: boolean;
  /** What cannot be read becomes zeros, and is told here. */
  readonly salvage?: Terminal | undefined;
}

/** A disk as source, whose errors say that it was reading that failed. */
export function sourceOf(disk: Disk, { topOnly = false, salvage }: SourceOptions = {}): CopySource {
  const source = plainSource(disk, topOnly);
  const { text } = disk.name;
  const failed = (error: unknown): unknown => {
    const isOwn = error instanceof CorralError ? error.code !== 'ERR_CANCELLED' : systemErrorCode(error) !== undefined;
    if (!isOwn) return error;
    return new CommandError(`Error while reading '${text}': ${reasonOf(error)}`, 1, { cause: error });
  };
  return {
    length: source.length,
    async *ranges(signal) {
      try {
        for await (const range of source.ranges(signal)) {
          // What cannot be read has to be found here.
          yield salvage === undefined ? range : { ...range, place: undefined };
        }
      } catch (error) {
        throw failed(error);
      }
    },
    async read(offset, target) {
      try {
        await source.read(offset, target);
      } catch (error) {
        if (salvage === undefined) throw failed(error);
        await salvageRead(source, offset, target, salvage);
      }
    },
  };
}

function plainSource(disk: Disk, topOnly: boolean): CopySource {
  if (disk.image !== undefined) return imageSource(disk.image, { topOnly });
  if (disk.name.window === undefined) return fileSource(disk.file, disk.size);
  return {
    length: disk.size,
    async *ranges() {
      if (disk.size > 0) yield { offset: 0, length: disk.size, zero: false };
    },
    read: (offset, target) => disk.read(offset, target),
  };
}

async function salvageRead(source: CopySource, offset: number, target: Uint8Array, terminal: Terminal): Promise<void> {
  for (let done = 0; done < target.length; done += SALVAGED) {
    const piece = target.subarray(done, done + SALVAGED);
    await source.read(offset + done, piece).catch((error: unknown) => {
      terminal.note(`${terminal.program}: warning: error while reading offset ${offset + done}: ${reasonOf(error)}`);
      piece.fill(0);
    });
  }
}
