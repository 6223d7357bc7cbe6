/** The fields of a qcow2 header (specification, "Header"), by their places. */

import type { ImageFacts } from '../../../host/image-facts.js';
import type { NamedBytes } from '../protocol.js';

interface Field {
  readonly offset: number;
  readonly length: 4 | 8;
  readonly name: string;
  /** What the number means. */
  readonly as?: 'offset' | 'bits' | 'bytes';
}

const FIELDS: readonly Field[] = [
  { offset: 0, length: 4, name: 'Magic', as: 'bits' },
  { offset: 4, length: 4, name: 'Version' },
  { offset: 8, length: 8, name: 'Backing file name: offset', as: 'offset' },
  { offset: 16, length: 4, name: 'Backing file name: length', as: 'bytes' },
  { offset: 20, length: 4, name: 'Cluster bits' },
  { offset: 24, length: 8, name: 'Virtual size', as: 'bytes' },
  { offset: 32, length: 4, name: 'Encryption method' },
  { offset: 36, length: 4, name: 'L1 table: entries' },
  { offset: 40, length: 8, name: 'L1 table: offset', as: 'offset' },
  { offset: 48, length: 8, name: 'Refcount table: offset', as: 'offset' },
  { offset: 56, length: 4, name: 'Refcount table: clusters' },
  { offset: 60, length: 4, name: 'Snapshots' },
  { offset: 64, length: 8, name: 'Snapshot table: offset', as: 'offset' },
];

const VERSION_3_FIELDS: readonly Field[] = [
  { offset: 72, length: 8, name: 'Incompatible features', as: 'bits' },
  { offset: 80, length: 8, name: 'Compatible features', as: 'bits' },
  { offset: 88, length: 8, name: 'Autoclear features', as: 'bits' },
  { offset: 96, length: 4, name: 'Refcount order' },
  { offset: 100, length: 4, name: 'Header length', as: 'bytes' },
];

/** The fields that the header has. */
export function headerFields(header: Uint8Array, { version }: ImageFacts): NamedBytes[] {
  const view = new DataView(header.buffer, header.byteOffset, header.length);
  const fields = version === 2 ? FIELDS : [...FIELDS, ...VERSION_3_FIELDS];
  const names = fields.map((field) => namedField(view, field));
  const length = version === 2 ? 72 : view.getUint32(100);
  if (length > 104 && header.length > 104) {
    const value = header[104] === 1 ? '1 (zstd)' : `${header[104]} (zlib)`;
    names.push({ offset: 104, length: 1, name: 'Compression type', value });
  }
  return names;
}

function namedField(view: DataView, { offset, length, name, as }: Field): NamedBytes {
  const value = length === 4 ? BigInt(view.getUint32(offset)) : view.getBigUint64(offset);
  const target =
    as === 'offset' && value > 0n && value < 2n ** 53n ? { space: 'host' as const, offset: Number(value) } : undefined;
  const text = as === 'bits' || as === 'offset' ? `0x${value.toString(16)}` : value.toString();
  return { offset, length, name, value: as === 'bytes' ? `${text} bytes` : text, target };
}
