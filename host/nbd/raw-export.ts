/** A raw disk as something that the NBD server can serve. */
import { type BlockFile, stretchesOf } from '../block-file.js';
import { HeaderGuard } from '../header-guard.js';
import type { MetaContext, NbdExport } from './export.js';

/** Bits of `base:allocation`. */
const HOLE_OF_ZEROS = 3;
const PAGE = 4096;

/** How a raw disk is exported. */
export interface RawExportOptions {
  /** What clients may call it. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Writes that put an image's header into the first sector are refused. Default: true. */
  readonly guard?: boolean;
}

/** Makes an export of a file whose bytes are the disk's. It stays the caller's: close the server first, then the file. */
export function exportRaw(file: BlockFile, { name, size, guard = true }: RawExportOptions): NbdExport {
  const header = guard ? new HeaderGuard(file) : undefined;
  const write = (offset: number, source: Uint8Array): Promise<void> => {
    const go = () => file.write(offset, [source]);
    return header === undefined ? go() : header.write(offset, source, go);
  };
  const zero = (offset: number, length: number, go: () => Promise<void>): Promise<void> =>
    header === undefined ? go() : header.zero(offset, length, go);
  return {
    name,
    size,
    readOnly: file.readOnly,
    preferredBlockSize: PAGE,
    // Where the file system cannot do it at once, they are written.
    zeroesFast: false,
    contexts: [allocation(file, size)],
    read: (offset, target) => file.read(offset, target),
    async write(offset, source, { durable }) {
      await write(offset, source);
      if (durable) await file.flush();
    },
    async writeZeroes(offset, length, { durable }) {
      await zero(offset, length, () => file.writeZeroes(offset, length));
      if (durable) await file.flush();
    },
    discard: (offset, length) => zero(offset, length, () => file.discard(offset, length)),
    flush: () => file.flush(),
  };
}

/** Where the file has data. */
function allocation(file: BlockFile, size: number): MetaContext {
  return {
    name: 'base:allocation',
    async *extents(offset, length) {
      for (const stretch of stretchesOf(file, { offset, length, fileLength: size })) {
        yield { length: stretch.length, status: stretch.hole ? HOLE_OF_ZEROS : 0 };
      }
    },
  };
}
