/** What the NBD server serves: a range of bytes. An `Image` becomes one through `image-export.ts`. */
import type { StatusExtent } from './transmission-messages.js';

export type { StatusExtent } from './transmission-messages.js';

/** What clients can be told of an export beside its bytes. */
export interface MetaContext {
  /** With its namespace, as in `base:allocation`; at most 4096 bytes of UTF-8. */
  readonly name: string;
  /** The stretches from `offset` on, in order and without gaps, at least up to `length` bytes. The range is not empty. */
  extents(offset: number, length: number): AsyncIterable<StatusExtent>;
}

export interface NbdExport {
  /** What clients may call it. At most 4096 bytes of UTF-8. */
  readonly name: string;
  /** Bytes. May become more while it is served: clients keep what they were told, later ones are told the new size. */
  readonly size: number;
  /** True: writes are refused before they get here. */
  readonly readOnly: boolean;
  /** Bytes: requests of this size and alignment cost least. A power of two from 512 up to 32 MiB. */
  readonly preferredBlockSize: number;
  /** Zeroing takes no longer with the length of the range; a client that wants it fast only is refused otherwise. */
  readonly zeroesFast: boolean;
  /** What may be asked of it. */
  readonly contexts: readonly MetaContext[];
  /** Fills the whole target from `offset` on. The range lies inside the export. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /**
   * Writes the whole source at `offset`; it belongs to the callee until the promise ends. The range lies inside the
   * export. `durable`: it survives a power cut once the promise ends.
   */
  write(offset: number, source: Uint8Array, options: { durable: boolean }): Promise<void>;
  /** Makes a range read as zeros. `unmap`: its space may be given back. */
  writeZeroes(offset: number, length: number, options: { durable: boolean; unmap: boolean }): Promise<void>;
  /** The range is not needed any more: it reads as before or as zeros. */
  discard(offset: number, length: number): Promise<void>;
  /**
   * Everything whose `write` ended before this call, whichever client asked for it, survives a power cut once the
   * promise ends. (This is what lets the server tell clients that they may use several connections.)
   */
  flush(): Promise<void>;
}
