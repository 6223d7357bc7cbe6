/** Numbers and texts in bytes that nobody has checked, and where such bytes come from. */

/** A file, or a disk in an image. */
export interface Reader {
  /** Bytes. */
  readonly length: number;
  /** `length` bytes from `offset` on, zeros behind the end. Rejects when it cannot be read, or when a limit is hit. */
  bytes(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** A view of bytes as numbers; in either order. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether these bytes stand there; false when they would not fit. */
export function hasBytes(bytes: Uint8Array, offset: number, wanted: string | readonly number[]): boolean {
  if (offset + wanted.length > bytes.length) return false;
  for (let index = 0; index < wanted.length; index++) {
    const byte = typeof wanted === 'string' ? wanted.charCodeAt(index) : wanted[index];
    if (bytes[offset + index] !== byte) return false;
  }
  return true;
}

/** Bytes as characters 0 to 255: for formats whose texts are ASCII. */
export function asciiOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** CRC-32 as in GPT and zip. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
