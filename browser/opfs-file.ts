/**
 * A file of the origin private file system, through a synchronous access handle (File System Standard, section
 * `FileSystemSyncAccessHandle`). There are such handles in dedicated workers only, and one file has one at a time.
 */

import { type BlockFile, ZEROES } from '../host/block-file.js';
import { CorralError } from '../host/errors.js';

/** What is used of a `FileSystemSyncAccessHandle`. Offsets and lengths are bytes. */
export interface SyncAccessHandle {
  read(target: Uint8Array, options: { at: number }): number;
  write(source: Uint8Array, options: { at: number }): number;
  getSize(): number;
  truncate(length: number): void;
  flush(): void;
  close(): void;
}

/** A file that can be had in this way. */
export interface SyncAccessFile {
  readonly name: string;
  createSyncAccessHandle?(options?: { mode?: string }): Promise<SyncAccessHandle>;
}

export interface OpfsFileOptions {
  /** Open for reading and writing. Default: reading. */
  write?: boolean;
  /** Where the file is: names in an image begin there. Default: its name. */
  location?: string;
}

export class OpfsFile implements BlockFile {
  readonly zeroBeyondEnd = true;

  private constructor(
    private readonly handle: SyncAccessHandle,
    readonly readOnly: boolean,
    readonly location: string,
  ) {}

  /**
   * Opens the file; nobody else can open it then. Rejects with ERR_LOCKED when somebody has it open, ERR_NOT_FOUND, and
   * ERR_UNSUPPORTED outside of a dedicated worker.
   */
  static async open(file: SyncAccessFile, options: OpfsFileOptions = {}): Promise<OpfsFile> {
    const { write = false, location = file.name } = options;
    if (file.createSyncAccessHandle === undefined) {
      const reason = 'Files of this kind can be opened for writing only in a dedicated worker';
      throw new CorralError('ERR_UNSUPPORTED', { path: location, reason });
    }
    try {
      return new OpfsFile(await file.createSyncAccessHandle(), !write, location);
    } catch (error) {
      throw openError(error, location);
    }
  }

  async size(): Promise<number> {
    return this.handle.getSize();
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const count = this.handle.read(target.subarray(done), { at: offset + done });
      if (count === 0) break;
      done += count;
    }
    target.fill(0, done);
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.refuseReadOnly();
    let position = offset;
    for (const piece of pieces) {
      this.writePiece(position, piece);
      position += piece.length;
    }
  }

  /** Behind the end of the file there are zeros without writing them. */
  async writeZeroes(offset: number, length: number): Promise<void> {
    this.refuseReadOnly();
    const end = offset + length;
    const written = Math.max(offset, Math.min(end, this.handle.getSize()));
    for (let position = offset; position < written; position += ZEROES.length) {
      this.writePiece(position, ZEROES.subarray(0, Math.min(ZEROES.length, written - position)));
    }
    if (end > written) this.changing(() => this.handle.truncate(end));
  }

  /** The range keeps its bytes: there is no way to give them back. */
  async discard(): Promise<void> {
    this.refuseReadOnly();
  }

  async truncate(length: number): Promise<void> {
    this.refuseReadOnly();
    this.changing(() => this.handle.truncate(length));
  }

  async flush(): Promise<void> {
    this.changing(() => this.handle.flush());
  }

  async close(): Promise<void> {
    this.handle.close();
  }

  private writePiece(offset: number, piece: Uint8Array): void {
    let done = 0;
    while (done < piece.length) {
      const count = this.changing(() => this.handle.write(piece.subarray(done), { at: offset + done }));
      if (count === 0) throw new NoSpace('Nothing more can be written to the file');
      done += count;
    }
  }

  private changing<T>(change: () => T): T {
    try {
      return change();
    } catch (error) {
      if (nameOf(error) === 'QuotaExceededError') throw new NoSpace((error as Error).message, { cause: error });
      throw error;
    }
  }

  private refuseReadOnly(): void {
    if (this.readOnly) throw new CorralError('ERR_READ_ONLY', { reason: 'The file is open read-only' });
  }
}

/** The site has no more space: the engine knows it by the system's name for that. */
export class NoSpace extends Error {
  readonly code = 'ENOSPC';
}

function openError(error: unknown, path: string): CorralError {
  const details = { path, cause: error };
  switch (nameOf(error)) {
    case 'NoModificationAllowedError':
      return new CorralError('ERR_LOCKED', { ...details, reason: 'The file is open already, here or in another tab' });
    case 'NotFoundError':
      return new CorralError('ERR_NOT_FOUND', details);
    case 'NotAllowedError':
      return new CorralError('ERR_PERMISSION', details);
    default:
      return new CorralError('ERR_IO', { ...details, reason: (error as Error).message });
  }
}

function nameOf(error: unknown): string {
  return error instanceof Error || error instanceof DOMException ? error.name : '';
}
