/** What the shell works on: a disk, whatever its format. Numbers are bytes. */

import { CorralError } from '../../errors.js';
import type { Preallocation } from '../../preallocate.js';

export interface DiskRange {
  readonly offset: number;
  readonly length: number;
  /** This file has the range itself, whatever lies behind it. */
  readonly allocated: boolean;
}

/** Requests behind the end of the disk reject, as all that cannot be carried out. They may overlap in time. */
export interface Disk {
  /** What `info` prints. */
  facts(): string;
  length(): number;
  readonly readOnly: boolean;
  /** The line about a corruption that a request has met, once; `changing`: the request was to change something. */
  corruption(error: unknown, changing: boolean): string | undefined;
  read(offset: number, target: Uint8Array): Promise<void>;
  write(offset: number, source: Uint8Array, options: { durable: boolean }): Promise<void>;
  writeCompressed(offset: number, source: Uint8Array): Promise<void>;
  writeZeroes(offset: number, length: number, options: { unmap: boolean; durable: boolean }): Promise<void>;
  /** The machine's saved state, where a disk has room for one. */
  readVmState(offset: number, target: Uint8Array): Promise<void>;
  writeVmState(offset: number, source: Uint8Array): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
  truncate(length: number, preallocation: Preallocation): Promise<void>;
  map(offset: number, length: number): AsyncIterable<DiskRange>;
  close(): Promise<void>;
}

/** Throws when the disk has no such bytes. */
export function checkRange(disk: Pick<Disk, 'length'>, offset: number, length: number): void {
  if (offset + length > disk.length()) throw new CorralError('ERR_OUT_OF_RANGE');
}

/** Throws when a disk that becomes shorter is to have more. */
export function checkPreallocation(preallocation: Preallocation, before: number, after: number): void {
  if (preallocation === 'off' || after >= before) return;
  throw new CorralError('ERR_UNSUPPORTED', { reason: "Preallocation can't be used for shrinking an image" });
}
