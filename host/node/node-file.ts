/** A `BlockFile` on Node's `fs`. */

import { close, constants, fstatSync, fsync, ftruncate, open, read, type Stats, writev } from 'node:fs';
import { promisify } from 'node:util';
import { appendZeroes, type BlockFile, type FileExtent } from '../block-file.js';
import { CorralError, systemErrorCode } from '../errors.js';
import { SerialQueue } from '../serial-queue.js';
import { isReadAtOnce } from './cached-read.js';
import { DirectIo } from './direct-io.js';
import { adviceFor } from './errno.js';
import { lockImage } from './file-lock.js';
import { findExtent, punchHole, wholeBlocks, zeroRange } from './file-space.js';
import { GatheredWrites } from './gathered-writes.js';

const openAsync = promisify(open);
const closeAsync = promisify(close);
const fsyncAsync = promisify(fsync);
const ftruncateAsync = promisify(ftruncate);
/** Most pieces of one gathered write (IOV_MAX). */
const MAXIMUM_PIECES = 1024;
const ZERO_BATCH = 16 * 65536;
/** Bytes of a write that takes longer than handing it over. */
const LONG_WRITE = 262144;
/** Most bytes of a write that goes with others. */
const SHORT_WRITE = 32768;
/** Fewer zeros than these are written. */
const SHORTEST_TOLD = 65536;

export interface NodeFileOptions {
  /** Open for reading and writing. Default: reading. */
  write?: boolean;
  /** Make the file; it must not exist unless `overwrite`. */
  create?: boolean;
  /** With `create`: an existing file is emptied. */
  overwrite?: boolean;
  /** Take QEMU's image locks, so that Corral and QEMU exclude each other. Default: true. */
  lock?: boolean;
  /** Past the page cache (O_DIRECT), where the system and the file system can do that. Default: false. */
  direct?: boolean;
  /** Every write is durable before it ends (O_DSYNC). Default: false. */
  sync?: boolean | undefined;
}

export class NodeFile implements BlockFile {
  /** The kernel lets one in at a time; the threads of the others would spend theirs with waiting. */
  private readonly longQueue = new SerialQueue();
  private readonly longWrites: GatheredWrites | undefined;
  private readonly shortWrites: GatheredWrites | undefined;

  private constructor(
    /** The open file descriptor; stays the file's. */
    readonly descriptor: number,
    readonly zeroBeyondEnd: boolean,
    readonly readOnly: boolean,
    private readonly path: string,
    readonly identity: string,
    private readonly direct: DirectIo | undefined,
    sync: boolean,
  ) {
    // Where writes wait for the storage, they are better off side by side.
    if (direct === undefined && zeroBeyondEnd && !sync) this.shortWrites = GatheredWrites.of(descriptor, path);
    this.longWrites = GatheredWrites.of(descriptor, path);
  }

  /** Past the page cache: the descriptor takes whole blocks only. */
  get isDirect(): boolean {
    return this.direct !== undefined;
  }

  get location(): string {
    return this.path;
  }

  /** Opens a regular file or block device. Rejects with ERR_NOT_FOUND, ERR_PERMISSION, ERR_EXISTS, ERR_LOCKED or ERR_IO. */
  static async open(path: string, options: NodeFileOptions = {}): Promise<NodeFile> {
    const write = options.write === true || options.create === true;
    let flags = write ? constants.O_RDWR : constants.O_RDONLY;
    if (options.sync) flags |= constants.O_DSYNC;
    if (options.direct) flags |= directFlag(path);
    if (options.create) flags |= constants.O_CREAT | (options.overwrite ? 0 : constants.O_EXCL);
    // Without O_NONBLOCK a named pipe would wait for its other end for ever.
    const descriptor = await openAsync(path, flags | constants.O_NONBLOCK, 0o644).catch((error: unknown) => {
      throw openError(path, error, options.direct);
    });
    try {
      // Of what is open the system knows it: another thread would take ten times as long.
      const status = fstatSync(descriptor);
      if (!status.isFile() && !status.isBlockDevice()) {
        throw new CorralError('ERR_INVALID_ARGUMENT', { path, reason: 'Not a regular file or block device' });
      }
      if (options.lock ?? true) lockImage(descriptor, { write, path });
      // Emptied only under the lock: somebody may be using what is there.
      if (options.create && options.overwrite && status.isFile()) await ftruncateAsync(descriptor, 0);
      return new NodeFile(
        descriptor,
        status.isFile(),
        !write,
        path,
        identityOf(status),
        options.direct ? new DirectIo(descriptor) : undefined,
        options.sync ?? false,
      );
    } catch (error) {
      await closeAsync(descriptor);
      throw error;
    }
  }

  async size(): Promise<number> {
    const status = fstatSync(this.descriptor);
    if (status.isFile()) return status.size;
    return this.deviceSize();
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    if (this.direct !== undefined) await this.named(this.direct.read(offset, target));
    else if (!isReadAtOnce(this.descriptor, offset, target)) {
      await this.named(readDescriptor(this.descriptor, offset, target));
    }
  }

  async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.refuseReadOnly();
    if (this.direct !== undefined) return this.named(this.direct.write(offset, pieces));
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (length <= SHORT_WRITE && this.shortWrites !== undefined) return this.shortWrites.write(offset, pieces, length);
    if (length < LONG_WRITE) return this.named(this.writePieces(offset, pieces));
    if (this.longWrites !== undefined) return this.longWrites.write(offset, pieces, length);
    return this.named(this.longQueue.run(() => this.writePieces(offset, pieces)));
  }

  private async writePieces(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    let left = pieces.filter((piece) => piece.length > 0);
    let position = offset;
    while (left.length > 0) {
      const count = await writeAt(this.descriptor, left.slice(0, MAXIMUM_PIECES), position);
      position += count;
      left = dropFirst(left, count);
    }
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.refuseReadOnly();
    await this.named(this.zero(offset, length));
  }

  private async zero(offset: number, length: number): Promise<void> {
    // A short range is written as fast as it is told, and only whole blocks can be told without reading them.
    const { start, end } = wholeBlocks(offset, length);
    const tells = this.zeroBeyondEnd && end - start >= SHORTEST_TOLD && zeroRange(this.descriptor, { start, end });
    if (!tells) return this.writeZeroBytes(offset, length);
    await this.writeZeroBytes(offset, start - offset);
    await this.writeZeroBytes(end, offset + length - end);
  }

  private async writeZeroBytes(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZERO_BATCH) {
      const pieces: Uint8Array[] = [];
      appendZeroes(pieces, Math.min(ZERO_BATCH, length - done));
      await this.write(offset + done, pieces);
    }
  }

  /** Whole blocks become a hole, where the addon and the file system can do that; else the range keeps its bytes. */
  async discard(offset: number, length: number): Promise<void> {
    this.refuseReadOnly();
    if (!this.zeroBeyondEnd) return;
    try {
      punchHole(this.descriptor, wholeBlocks(offset, length));
    } catch (error) {
      throw this.withPath(error);
    }
  }

  async truncate(length: number): Promise<void> {
    this.refuseReadOnly();
    await this.named(ftruncateAsync(this.descriptor, length));
  }

  async flush(): Promise<void> {
    await this.named(fsyncAsync(this.descriptor));
  }

  extentAt(offset: number): FileExtent | undefined {
    // A device has no holes that it would tell of.
    return this.zeroBeyondEnd ? findExtent(this.descriptor, offset) : undefined;
  }

  async close(): Promise<void> {
    // A write that still waits would reach whatever file is given this number next.
    await this.shortWrites?.ended();
    await this.longWrites?.ended();
    await closeAsync(this.descriptor);
  }

  /** A block device has no length in its status: the last readable byte is found by halving. */
  private async deviceSize(): Promise<number> {
    let low = 0;
    let high = Number.MAX_SAFE_INTEGER;
    while (low < high) {
      const middle = low + Math.floor((high - low) / 2);
      if (await this.reaches(middle)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private async reaches(offset: number): Promise<boolean> {
    const { direct, descriptor } = this;
    const found = direct === undefined ? readAt(descriptor, new Uint8Array(1), offset) : direct.reaches(offset);
    return Boolean(await found.catch(() => false));
  }

  /** Errors say by their `path` which file they are about, as those of opening do. */
  private named<T>(work: Promise<T>): Promise<T> {
    return work.catch((error: unknown) => {
      throw this.withPath(error);
    });
  }

  private withPath(error: unknown): Error {
    return Object.assign(error as Error, { path: this.path });
  }

  private refuseReadOnly(): void {
    if (this.readOnly)
      throw new CorralError('ERR_READ_ONLY', { path: this.path, reason: 'The file is open read-only' });
  }
}

/** Fills the target from an open file, with zeros beyond its end. Rejects with the system's error. */
export async function readDescriptor(descriptor: number, offset: number, target: Uint8Array): Promise<void> {
  let done = 0;
  while (done < target.length) {
    const count = await readAt(descriptor, target.subarray(done), offset + done);
    if (count === 0) break;
    done += count;
  }
  target.fill(0, done);
}

/** What two open files have in common when they are one. */
export function identityOf(status: Stats): string {
  return status.isBlockDevice() ? `device ${status.rdev}` : `${status.dev}:${status.ino}`;
}

function readAt(descriptor: number, target: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, target, 0, target.length, position, (error, count) => (error ? reject(error) : resolve(count)));
  });
}

function writeAt(descriptor: number, pieces: readonly Uint8Array[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    writev(descriptor, pieces, position, (error, count) => (error ? reject(error) : resolve(count)));
  });
}

/** The pieces that are left when the first `count` bytes are done. */
function dropFirst(pieces: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count;
  const left: Uint8Array[] = [];
  for (const piece of pieces) {
    if (skip >= piece.length) skip -= piece.length;
    else {
      left.push(piece.subarray(skip));
      skip = 0;
    }
  }
  return left;
}

/** The flag of open(2). Throws ERR_UNSUPPORTED where there is none. */
function directFlag(path: string): number {
  // Not every system has it, whatever the types say.
  const flag: number | undefined = constants.O_DIRECT;
  if (flag === undefined) throw withoutDirect(path);
  return flag;
}

function withoutDirect(path: string, cause?: unknown): CorralError {
  return new CorralError('ERR_UNSUPPORTED', { path, cause, reason: 'filesystem does not support O_DIRECT' });
}

/** One line in the words of the system. */
function openError(path: string, error: unknown, direct = false): CorralError {
  const system = systemErrorCode(error);
  const details = { path, system, cause: error };
  if (direct && system === 'EINVAL') return withoutDirect(path, error);
  switch (system) {
    case 'ENOENT':
      return new CorralError('ERR_NOT_FOUND', { ...details, reason: 'No such file or directory' });
    case 'EACCES':
    case 'EPERM':
      return new CorralError('ERR_PERMISSION', { ...details, reason: 'Permission denied' });
    case 'EROFS':
      return new CorralError('ERR_PERMISSION', { ...details, reason: 'Read-only file system' });
    case 'EEXIST':
      return new CorralError('ERR_EXISTS', { ...details, reason: 'File exists' });
    case 'EISDIR':
      return new CorralError('ERR_INVALID_ARGUMENT', { ...details, reason: 'Is a directory' });
    default:
      return new CorralError('ERR_IO', { ...details, reason: adviceFor(system, (error as Error).message) });
  }
}
