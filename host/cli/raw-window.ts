/** The part of a file that is a raw disk: the options `offset` and `size` of QEMU's raw driver. */

import type { BlockFile } from '../block-file.js';
import { CorralError } from '../errors.js';
import { type NodeOptions, takeSize } from './node-options.js';
import { CommandError } from './output.js';

const SECTOR = 512;

/** What the user says of it. Numbers are bytes. */
export interface RawWindow {
  readonly offset: number;
  /** Undefined: up to the end of the file, with which the disk can grow. */
  readonly size: number | undefined;
  /** The options as they were given. */
  readonly given: ReadonlyMap<string, string>;
}

/** Takes the options. Throws `CommandError` with the reason alone. */
export function takeWindow(options: NodeOptions): RawWindow | undefined {
  const given = new Map([...options].filter(([name]) => name === 'offset' || name === 'size'));
  if (given.size === 0) return undefined;
  const [offset = 0, size] = ['offset', 'size'].map((name) => takeSize(options, name));
  if (size !== undefined && size % SECTOR !== 0) {
    throw new CommandError(`Specified size is not multiple of ${SECTOR}`);
  }
  return { offset, size, given };
}

/**
 * Where the disk lies in a file, whose length in bytes is taken for whole sectors. Throws `CommandError` with the reason
 * alone when it does not lie in there.
 */
export function windowIn(window: RawWindow | undefined, fileLength: number): { offset: number; size: number } {
  const length = Math.ceil(fileLength / SECTOR) * SECTOR;
  const { offset, size } = window ?? { offset: 0, size: undefined };
  if (offset > length) {
    throw new CommandError(`Offset (${offset}) cannot be greater than size of the containing file (${length})`);
  }
  if (size !== undefined && offset + size > length) {
    throw new CommandError(
      `The sum of offset (${offset}) and size (${size}) has to be smaller or equal to the  actual size of the containing file (${length})`,
    );
  }
  return { offset, size: size ?? length - offset };
}

/** That part as a file of its own. The file below belongs to it. */
export class WindowFile implements BlockFile {
  readonly zeroBeyondEnd: boolean;
  readonly readOnly: boolean;

  constructor(
    private readonly file: BlockFile,
    private readonly window: RawWindow,
  ) {
    this.zeroBeyondEnd = file.zeroBeyondEnd;
    this.readOnly = file.readOnly;
  }

  async size(): Promise<number> {
    return windowIn(this.window, await this.file.size()).size;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.file.read(this.window.offset + offset, target);
  }

  write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    return this.file.write(this.window.offset + offset, pieces);
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.file.writeZeroes(this.window.offset + offset, length);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.file.discard(this.window.offset + offset, length);
  }

  async truncate(length: number): Promise<void> {
    refuseFixed(this.window);
    await this.file.truncate(this.window.offset + length);
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

/** Refuses to change the size of a disk whose options say how long it is. */
export function refuseFixed(window: RawWindow | undefined): void {
  if (window?.size === undefined) return;
  throw new CorralError('ERR_UNSUPPORTED', { reason: 'Cannot resize fixed-size raw disks' });
}
