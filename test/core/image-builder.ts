/** Small qcow2 images made byte by byte: what no tool would write can be written here. */

import type { Image } from '../../host/index.js';
import { MemoryFile, Image as OpenImage } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';

export const COPIED = 1n << 63n;

export interface BuilderOptions {
  clusterBits?: number;
  refcountOrder?: number;
  /** Clusters of the file. */
  clusters?: number;
  l1Size?: number;
}

/**
 * Cluster 0 is the header, 1 the refcount table, 2 the one refcount block, and from 3 on the L1 table. What follows is
 * handed out by `take`. Nothing is checked, everything may be overwritten.
 */
export class ImageBuilder {
  readonly bytes: Buffer;
  readonly clusterSize: number;
  readonly l1Offset: number;
  readonly tableOffset: number;
  readonly blockOffset: number;
  private next: number;

  constructor(private readonly options: BuilderOptions = {}) {
    const { clusterBits = 12, refcountOrder = 4, clusters = 64, l1Size = 1 } = options;
    this.clusterSize = 1 << clusterBits;
    this.bytes = Buffer.alloc(clusters * this.clusterSize);
    this.tableOffset = this.clusterSize;
    this.blockOffset = 2 * this.clusterSize;
    this.l1Offset = 3 * this.clusterSize;
    this.next = 3 + Math.ceil((l1Size * 8) / this.clusterSize);

    this.bytes.write('QFI\xfb', 0, 'latin1');
    this.bytes.writeUInt32BE(3, 4);
    this.bytes.writeUInt32BE(clusterBits, 20);
    this.bytes.writeBigUInt64BE(BigInt(this.clusterSize), 24);
    this.bytes.writeUInt32BE(l1Size, 36);
    this.bytes.writeBigUInt64BE(BigInt(this.l1Offset), 40);
    this.bytes.writeBigUInt64BE(BigInt(this.tableOffset), 48);
    this.bytes.writeUInt32BE(1, 56);
    this.bytes.writeUInt32BE(refcountOrder, 96);
    this.bytes.writeUInt32BE(104, 100);
    this.setWord(this.tableOffset, BigInt(this.blockOffset));
    for (let cluster = 0; cluster < this.next; cluster++) this.setRefcount(cluster, 1n);
  }

  /** The next clusters that nothing uses, with refcount 1; returns the offset of the first. */
  take(count = 1): number {
    const first = this.next;
    this.next += count;
    for (let cluster = first; cluster < this.next; cluster++) this.setRefcount(cluster, 1n);
    return first * this.clusterSize;
  }

  setWord(offset: number, value: bigint): void {
    this.bytes.writeBigUInt64BE(BigInt.asUintN(64, value), offset);
  }

  setL1(index: number, entry: bigint): void {
    this.setWord(this.l1Offset + index * 8, entry);
  }

  setRefcount(cluster: number, value: bigint): void {
    const width = 1 << (this.options.refcountOrder ?? 4);
    for (let bit = 0; bit < width; bit++) {
      // Below a byte from the least significant bit on; else the most significant byte comes first.
      const byte = width < 8 ? (cluster * width) >> 3 : ((cluster + 1) * width) / 8 - 1 - (bit >> 3);
      const mask = 1 << (width < 8 ? ((cluster * width) & 7) + bit : bit & 7);
      const old = this.bytes[this.blockOffset + byte] ?? 0;
      this.bytes[this.blockOffset + byte] = ((value >> BigInt(bit)) & 1n) === 1n ? old | mask : old & ~mask;
    }
  }

  /** Fills the snapshot table at `offset` with `count` snapshots that all have the L1 table at `l1Offset`. */
  setSnapshots(offset: number, count: number, l1Offset: number, l1Size: number): void {
    const ENTRY = 56;
    this.bytes.writeUInt32BE(count, 60);
    this.setWord(64, BigInt(offset));
    for (let index = 0; index < count; index++) {
      const entry = offset + index * ENTRY;
      this.setWord(entry, BigInt(l1Offset));
      this.bytes.writeUInt32BE(l1Size, entry + 8);
      this.bytes.writeUInt32BE(16, entry + 36);
    }
  }

  file(): CountingFile {
    return new CountingFile(this.bytes);
  }
}

/** A file that counts the bytes read from it. */
export class CountingFile extends MemoryFile {
  bytesRead = 0;

  override async read(offset: number, target: Uint8Array): Promise<void> {
    this.bytesRead += target.length;
    await super.read(offset, target);
  }
}

/** Opens an image for checking. */
export function openForCheck(
  file: MemoryFile,
  options: { checkSize?: number; write?: boolean; tablesOnly?: boolean } = {},
): Promise<Image> {
  return OpenImage.open(file, { core: loadCore(), checkSize: 1 << 20, ...options });
}
