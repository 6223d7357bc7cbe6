/** An open image as something that the NBD server can serve. */
import { type ChainExtent, mapChain } from '../chain-map.js';
import { CorralError } from '../errors.js';
import type { Image } from '../image.js';
import type { MetaContext, NbdExport, StatusExtent } from './export.js';
import { marked } from './meta-contexts.js';

/** Bits of `base:allocation`. */
const HOLE = 1;
const ZERO = 2;

/** How an image is exported. */
export interface ImageExportOptions {
  /** What clients may call it; usually the image's file name. */
  readonly name: string;
  /** Persistent bitmaps that clients may ask for, as `qemu:dirty-bitmap:NAME`. */
  readonly bitmaps?: readonly string[];
}

/**
 * Makes an export of an image. The image stays the caller's: close the server first, then the image.
 *
 * @throws CorralError ERR_NOT_FOUND, ERR_INVALID_ARGUMENT for a bitmap that is not there or cannot be read
 */
export async function exportImage(image: Image, options: ImageExportOptions): Promise<NbdExport> {
  const { bitmaps = [] } = options;
  await checkBitmaps(image, bitmaps);
  return {
    name: options.name,
    get size() {
      return image.size;
    },
    readOnly: image.readOnly,
    preferredBlockSize: image.info.clusterSize,
    // Version 2 has no clusters of zeros, and a data file is told of them piece by piece.
    zeroesFast: image.info.version >= 3 && !image.info.hasDataFile,
    contexts: [allocation(image), depth(image), ...bitmaps.map((name) => dirty(image, name))],
    read: (offset, target) => image.read(offset, target),
    write: (offset, source, { durable }) => image.write(offset, source, { durable }),
    writeZeroes: (offset, length, { durable, unmap }) => image.writeZeroes(offset, length, { durable, unmap }),
    discard: (offset, length) => image.discard(offset, length),
    flush: () => image.flush(),
  };
}

async function checkBitmaps(image: Image, names: readonly string[]): Promise<void> {
  const found = names.length === 0 ? [] : await image.bitmaps.list();
  for (const name of names) {
    const bitmap = found.find((one) => one.name === name);
    if (bitmap === undefined) {
      throw new CorralError('ERR_NOT_FOUND', { reason: `Dirty bitmap '${name}' not found` });
    }
    if (bitmap.inconsistent) {
      throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `Bitmap '${name}' is inconsistent and cannot be used` });
    }
  }
}

/** What has data, and what reads as zeros, through all layers. */
function allocation(image: Image): MetaContext {
  const status = ({ kind }: ChainExtent): number => (kind === 'data' || kind === 'compressed' ? 0 : HOLE | ZERO);
  return { name: 'base:allocation', extents: (offset, length) => mapped(image, offset, length, status) };
}

/** Which layer has it: 1 the image itself, 2 its backing file and so on; 0 none. As QEMU's. */
function depth(image: Image): MetaContext {
  const status = (extent: ChainExtent): number => (extent.kind === 'unallocated' ? 0 : extent.depth + 1);
  return { name: 'qemu:allocation-depth', extents: (offset, length) => mapped(image, offset, length, status) };
}

/** What is dirty in a bitmap. As QEMU's. */
function dirty(image: Image, name: string): MetaContext {
  const extents = (offset: number, length: number) =>
    marked(image.bitmaps.ranges(name, { offset, length }), offset, offset + length);
  return { name: `qemu:dirty-bitmap:${name}`, extents };
}

async function* mapped(
  image: Image,
  offset: number,
  length: number,
  status: (extent: ChainExtent) => number,
): AsyncGenerator<StatusExtent> {
  for await (const extent of mapChain(image, { offset, length }))
    yield { length: extent.length, status: status(extent) };
}
