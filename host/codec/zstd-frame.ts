/**
 * Where a zstd frame ends, and what memory it asks for (RFC 8878, section 3.1.1). QEMU pads compressed clusters to whole
 * sectors, and decoders take what follows the frame for damage: the input must be cut first. The sizes that a frame
 * claims are checked here, before a decoder allocates them.
 */

const MAGIC = 0xfd2fb528;
/** Windows of QEMU's level for clusters of 2 MiB are 2 MiB; this is four times as much. */
const MAXIMUM_WINDOW = 8 * 1024 * 1024;
const BLOCK_TYPE_RLE = 1;
const BLOCK_TYPE_RESERVED = 3;

/** The first frame of `source`, without what follows it. Throws when it is damaged or wants more than `size` bytes. */
export function cutFrame(source: Uint8Array, size: number): Uint8Array {
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  if (view.getUint32(0, true) !== MAGIC) throw new RangeError('no zstd frame');
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const hasChecksum = (descriptor & 4) !== 0;
  let position = 5;
  if (!singleSegment) checkWindow(view.getUint8(position++));
  position += [0, 1, 2, 4][descriptor & 3] as number;
  const sizeFlag = descriptor >> 6;
  if (sizeFlag !== 0 || singleSegment) {
    const claimed = contentSize(view, position, sizeFlag);
    if (claimed > size) throw new RangeError(`the zstd frame claims ${claimed} bytes, a cluster has ${size}`);
    position += 1 << sizeFlag;
  }
  position = skipBlocks(view, position);
  return source.subarray(0, position + (hasChecksum ? 4 : 0));
}

function checkWindow(descriptor: number): void {
  const base = 2 ** (10 + (descriptor >> 3));
  const window = base + (base / 8) * (descriptor & 7);
  if (window > MAXIMUM_WINDOW) throw new RangeError(`the zstd window of ${window} bytes is too large`);
}

function contentSize(view: DataView, position: number, flag: number): number {
  if (flag === 0) return view.getUint8(position);
  if (flag === 1) return view.getUint16(position, true) + 256;
  if (flag === 2) return view.getUint32(position, true);
  return Number(view.getBigUint64(position, true));
}

/** Position behind the last block. */
function skipBlocks(view: DataView, start: number): number {
  let position = start;
  while (true) {
    const header = view.getUint16(position, true) | (view.getUint8(position + 2) << 16);
    const type = (header >> 1) & 3;
    if (type === BLOCK_TYPE_RESERVED) throw new RangeError('a zstd block of a reserved type');
    position += 3 + (type === BLOCK_TYPE_RLE ? 1 : header >> 3);
    if (position > view.byteLength) throw new RangeError('the zstd frame is cut off');
    if ((header & 1) !== 0) return position;
  }
}
