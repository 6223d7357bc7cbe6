/** A file that a browser lets be written from anywhere in it, but not read: one that somebody chose to save to. */

import { appendZeroes } from '../host/block-file.js';
import type { CopyTarget } from '../host/convert.js';
import { CorralError } from '../host/errors.js';
import { NoSpace, OpfsFile, type SyncAccessFile } from './opfs-file.js';

/** Where a disk is written to; nothing has happened until `finish` ends, except in files that are written in place. */
export interface SaveTarget extends CopyTarget {
  /** Gives the file its length, and makes everything durable. */
  finish(length: number): Promise<void>;
  /** Gives up: the file is left as it was, or empty. */
  abandon(): Promise<void>;
}

const ZERO_BATCH = 1024 * 1024;

/** Opens a file to be written anew, the fastest way that there is for it. Rejects with ERR_PERMISSION, ERR_LOCKED or ERR_IO. */
export async function openSaveTarget(handle: FileSystemFileHandle): Promise<SaveTarget> {
  const inPlace = await openInPlace(handle);
  return inPlace ?? WritableFile.open(handle);
}

/** Undefined for a file that is not of the origin private file system, or in a thread that has no such access. */
async function openInPlace(handle: FileSystemFileHandle): Promise<SaveTarget | undefined> {
  if ((handle as SyncAccessFile).createSyncAccessHandle === undefined) return undefined;
  let file: OpfsFile;
  try {
    file = await OpfsFile.open(handle as SyncAccessFile, { write: true });
  } catch (error) {
    if (error instanceof CorralError && (error.cause as Error | undefined)?.name === 'InvalidStateError')
      return undefined;
    throw error;
  }
  await file.truncate(0);
  return {
    granularity: 512,
    write: (offset, source) => file.write(offset, [source]),
    writeZeroes: (offset, length) => file.writeZeroes(offset, length),
    async finish(length) {
      try {
        await file.truncate(length);
        await file.flush();
      } finally {
        await file.close();
      }
    },
    async abandon() {
      try {
        await file.truncate(0);
      } finally {
        await file.close();
      }
    },
  };
}

class WritableFile implements SaveTarget {
  readonly granularity = 512;

  private constructor(private readonly stream: FileSystemWritableFileStream) {}

  static async open(handle: FileSystemFileHandle): Promise<WritableFile> {
    try {
      return new WritableFile(await handle.createWritable());
    } catch (error) {
      const code = (error as Error).name === 'NoModificationAllowedError' ? 'ERR_LOCKED' : 'ERR_PERMISSION';
      throw new CorralError(code, { path: handle.name, cause: error });
    }
  }

  async write(position: number, data: Uint8Array): Promise<void> {
    // WebAssembly's memory, where copies come from, is no memory that this interface takes in every browser.
    await this.step(() => this.stream.write({ type: 'write', position, data: data.slice() }));
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZERO_BATCH) {
      const pieces: Uint8Array[] = [];
      appendZeroes(pieces, Math.min(ZERO_BATCH, length - done));
      const data = new Blob(pieces as Uint8Array<ArrayBuffer>[]);
      await this.step(() => this.stream.write({ type: 'write', position: offset + done, data }));
    }
  }

  async finish(length: number): Promise<void> {
    await this.step(() => this.stream.truncate(length));
    await this.step(() => this.stream.close());
  }

  async abandon(): Promise<void> {
    await this.stream.abort().catch(() => undefined);
  }

  private async step(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if ((error as Error).name === 'QuotaExceededError') throw new NoSpace((error as Error).message, { cause: error });
      throw error;
    }
  }
}
