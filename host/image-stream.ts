/**
 * A new image, byte by byte from its beginning to its end, for streams that cannot go back. Its tables lie among the data and say
 * where all of it is: they are made first, in a file of their own in which the data are holes. Then the bytes of that file go by,
 * and where it has holes for them those of the disk.
 */

import type { BlockFile } from './block-file.js';
import type { CopySource } from './convert-source.js';
import { wholeUnits } from './copy-range.js';
import { Image } from './image.js';
import { mapNew } from './preallocate.js';

/** Bytes that are read at once. */
const PIECE_LENGTH = 1 << 20;
const ZEROES = new Uint8Array(PIECE_LENGTH);

export interface StreamOptions {
  readonly core: WebAssembly.Module;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Gives everything of the disk that may not be zeros its place in the new, empty image that `tables` holds. The file becomes as
 * long as the image, but only tables take space in it. Resolves with false when the image is not in the order of the
 * disk: then `imageBytes` would not be all of it. Not for images with subclusters, whose clusters get a place and no data.
 */
export async function layOut(tables: BlockFile, source: CopySource, options: StreamOptions): Promise<boolean> {
  const { core, signal } = options;
  const clusterSize = await withImage(tables, options, async ({ info }) => info.clusterSize);
  const units = { unit: clusterSize, length: source.length, keepPlaces: false };
  await mapNew({ core, file: tables, data: undefined }, wholeUnits(source.ranges(signal), units), signal);
  return withImage(tables, options, async (image) => {
    let position = 0;
    for await (const { kind, length, hostOffset } of image.map({ signal })) {
      if (kind !== 'data' || hostOffset === undefined) continue;
      if (hostOffset < position) return false;
      position = hostOffset + length;
    }
    return true;
  });
}

/** The image that `layOut` has prepared. Pieces are not used again. Rejects as reading does. */
export async function* imageBytes(
  tables: BlockFile,
  source: CopySource,
  options: StreamOptions,
): AsyncGenerator<Uint8Array> {
  const image = await openTables(tables, options);
  let position = 0;
  for await (const { kind, offset, length, hostOffset } of image.map({ signal: options.signal })) {
    if (kind !== 'data' || hostOffset === undefined) continue;
    yield* bytesOf(tables, position, hostOffset - position);
    yield* bytesOf(source, offset, length);
    position = hostOffset + length;
  }
  yield* bytesOf(tables, position, (await tables.size()) - position);
}

/** The disk itself. Pieces are not used again, and not to be changed. Rejects as reading does. */
export async function* diskBytes(source: CopySource, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const { offset, length, zero } of source.ranges(signal)) {
    if (!zero) yield* bytesOf(source, offset, length);
    else for (let done = 0; done < length; done += PIECE_LENGTH) yield ZEROES.subarray(0, length - done);
  }
}

async function* bytesOf(from: Pick<CopySource, 'read'>, offset: number, length: number): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < length; done += PIECE_LENGTH) {
    const piece = new Uint8Array(Math.min(PIECE_LENGTH, length - done));
    await from.read(offset + done, piece);
    yield piece;
  }
}

/** Not closed: that would close the file. */
function openTables(tables: BlockFile, { core, signal }: StreamOptions): Promise<Image> {
  return Image.open(tables, { core, signal });
}

async function withImage<T>(tables: BlockFile, options: StreamOptions, work: (image: Image) => Promise<T>): Promise<T> {
  return work(await openTables(tables, options));
}
