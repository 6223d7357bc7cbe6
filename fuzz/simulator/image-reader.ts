/**
 * Reads QCOW2 structures on its own: written from the specification, sharing nothing with the engine, so that a mistake
 * of the engine cannot hide behind itself.
 */

import type { CutResult } from './power-cut.js';
import { SimulationFailure } from './trace.js';

const MAGIC = 0x514649fb;
/** Bits 9 to 55 of an L1, L2 or (from 9 on) refcount table entry, as the two halves of the number. */
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
/** Incompatible and autoclear feature bits. */
const DIRTY = 1;
const DATA_FILE = 4;
const EXTENDED_L2 = 16;
const RAW_DATA_FILE = 2;
/** Subclusters of an extended L2 entry. */
const SUBCLUSTERS = 32;

/** A table entry of 64 bits in two halves. */
export interface Entry {
  readonly high: number;
  readonly low: number;
}

export interface Header {
  readonly version: number;
  readonly clusterBits: number;
  readonly virtualSize: number;
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountBits: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  /** Refcounts may be behind. */
  readonly dirty: boolean;
  /** L2 entries have 16 bytes and describe subclusters. */
  readonly extended: boolean;
  /** Guest data lies in a file of its own, at its guest offset when that is raw. */
  readonly dataFile: boolean;
  readonly rawDataFile: boolean;
}

/** The active disk's L1 table, or that of an internal snapshot. */
export interface Root {
  /** 0 for the active disk, else the snapshot's number: its ID. */
  readonly number: number;
  /** Bytes of its virtual disk. */
  readonly size: number;
  readonly l1Offset: number;
  readonly l1Size: number;
}

export class ImageReader {
  readonly header: Header;
  readonly clusterSize: number;
  /** Bytes of an L2 entry. */
  readonly entrySize: number;
  /** Entries of an L2 table. */
  readonly tableEntries: number;
  /** Guest bytes that one L2 table describes. */
  readonly tableCoverage: number;
  /** Clusters that one refcount block counts. */
  readonly blockCoverage: number;
  private readonly tables = new Map<number, DataView>();

  constructor(readonly file: CutResult) {
    const bytes = new DataView(new ArrayBuffer(104));
    this.file.bytes.read(0, new Uint8Array(bytes.buffer));
    if (bytes.getUint32(0) !== MAGIC) throw new SimulationFailure('the image has lost its header');
    const version = bytes.getUint32(4);
    const incompatible = version === 2 ? 0 : bytes.getUint32(76);
    this.header = {
      version,
      clusterBits: bytes.getUint32(20),
      virtualSize: numberAt(bytes, 24),
      l1Size: bytes.getUint32(36),
      l1Offset: numberAt(bytes, 40),
      refcountTableOffset: numberAt(bytes, 48),
      refcountTableClusters: bytes.getUint32(56),
      snapshotCount: bytes.getUint32(60),
      snapshotsOffset: numberAt(bytes, 64),
      dirty: (incompatible & DIRTY) !== 0,
      extended: (incompatible & EXTENDED_L2) !== 0,
      dataFile: (incompatible & DATA_FILE) !== 0,
      rawDataFile: version === 3 && (bytes.getUint32(92) & RAW_DATA_FILE) !== 0,
      refcountBits: version === 2 ? 16 : 2 ** bytes.getUint32(96),
    };
    this.clusterSize = 2 ** this.header.clusterBits;
    this.entrySize = this.header.extended ? 16 : 8;
    this.tableEntries = this.clusterSize / this.entrySize;
    this.tableCoverage = this.tableEntries * this.clusterSize;
    this.blockCoverage = (this.clusterSize * 8) / this.header.refcountBits;
  }

  /** Bytes that are mapped or not as a whole. */
  get unitSize(): number {
    return this.header.extended ? this.clusterSize / SUBCLUSTERS : this.clusterSize;
  }

  /** Refcount table entries that there is room for. */
  get refcountTableEntries(): number {
    return (this.header.refcountTableClusters * this.clusterSize) / 8;
  }

  l1Entry(index: number, root: Root = this.active): Entry {
    return entryAt(this.table(root.l1Offset, root.l1Size * 8), index);
  }

  /** Name of the backing file; empty when there is none. */
  get backingFile(): string {
    const fields = new DataView(new ArrayBuffer(12));
    this.file.bytes.read(8, new Uint8Array(fields.buffer));
    const name = new Uint8Array(fields.getUint32(8));
    if (name.length > 1023) throw new SimulationFailure(`the name of the backing file has ${name.length} bytes`);
    this.file.bytes.read(numberAt(fields, 0), name);
    return new TextDecoder().decode(name);
  }

  get active(): Root {
    return { number: 0, size: this.header.virtualSize, l1Offset: this.header.l1Offset, l1Size: this.header.l1Size };
  }

  /** The internal snapshots, and where their table ends. */
  get snapshots(): { roots: Root[]; end: number } {
    const roots: Root[] = [];
    let at = this.header.snapshotsOffset;
    for (let count = this.header.snapshotCount; count > 0; count--) {
      const entry = new DataView(new ArrayBuffer(56));
      this.file.bytes.read(at, new Uint8Array(entry.buffer));
      const [idLength, nameLength, extraLength] = [entry.getUint16(12), entry.getUint16(14), entry.getUint32(36)];
      const id = new Uint8Array(idLength);
      this.file.bytes.read(at + 40 + extraLength, id);
      const number = Number(new TextDecoder().decode(id));
      // In the second word of the extra data, which version 2 need not have; all snapshots here do.
      const size = numberAt(entry, 48);
      roots.push({ number, size, l1Offset: numberAt(entry, 0), l1Size: entry.getUint32(8) });
      at += Math.ceil((40 + extraLength + idLength + nameLength) / 8) * 8;
    }
    return { roots, end: at };
  }

  /** The entries of an L2 table that are not zero throughout: most are. */
  usedEntries(tableOffset: number): number[] {
    const words = new Uint32Array(this.table(tableOffset, this.clusterSize).buffer);
    const used: number[] = [];
    const perEntry = this.entrySize / 4;
    for (let word = 0; word < words.length; word++) {
      if (words[word] === 0) continue;
      const index = Math.floor(word / perEntry);
      if (used.at(-1) !== index) used.push(index);
    }
    return used;
  }

  l2Entry(tableOffset: number, index: number): Entry {
    return entryAt(this.table(tableOffset, this.clusterSize), (index * this.entrySize) / 8);
  }

  /** The subclusters of an extended entry: which of them are zeros (`high`), and which are allocated (`low`). */
  subclusters(tableOffset: number, index: number): Entry {
    return entryAt(this.table(tableOffset, this.clusterSize), index * 2 + 1);
  }

  refcountTableEntry(index: number): Entry {
    const { refcountTableOffset, refcountTableClusters } = this.header;
    return entryAt(this.table(refcountTableOffset, refcountTableClusters * this.clusterSize), index);
  }

  /** Refcount of a cluster; wide ones lose what a number cannot hold, which no test needs. */
  refcount(cluster: number): number {
    const block = Math.floor(cluster / this.blockCoverage);
    if (block >= this.refcountTableEntries) return 0;
    const blockOffset = offsetOf(this.refcountTableEntry(block));
    if (blockOffset === 0) return 0;
    const view = this.table(blockOffset, this.clusterSize);
    const index = cluster - block * this.blockCoverage;
    switch (this.header.refcountBits) {
      case 64:
        return numberAt(view, index * 8);
      case 32:
        return view.getUint32(index * 4);
      case 16:
        return view.getUint16(index * 2);
      case 8:
        return view.getUint8(index);
      default: {
        const bits = this.header.refcountBits;
        return (view.getUint8((index * bits) >> 3) >> ((index * bits) & 7)) & ((1 << bits) - 1);
      }
    }
  }

  private table(offset: number, length: number): DataView {
    let view = this.tables.get(offset);
    if (view === undefined) {
      view = new DataView(new ArrayBuffer(length));
      this.file.bytes.read(offset, new Uint8Array(view.buffer));
      this.tables.set(offset, view);
    }
    return view;
  }
}

export function offsetOf({ high, low }: Entry): number {
  return (high & OFFSET_HIGH) * 0x100000000 + ((low & OFFSET_LOW) >>> 0);
}

/** Where the compressed data of an entry lies: up to the end of its last sector. */
export function compressedRange({ high, low }: Entry, clusterBits: number): { offset: number; length: number } {
  const offsetBits = BigInt(62 - (clusterBits - 8));
  const descriptor = (BigInt(high & 0x3fffffff) << 32n) | BigInt(low >>> 0);
  const offset = Number(descriptor & ((1n << offsetBits) - 1n));
  const sectors = Number(descriptor >> offsetBits) + 1;
  return { offset, length: sectors * 512 - (offset % 512) };
}

/** Bit 63: the refcount is exactly one. */
export function isCopied({ high }: Entry): boolean {
  return high >>> 31 === 1;
}

/** Bit 62 of an L2 entry. */
export function isCompressed({ high }: Entry): boolean {
  return ((high >>> 30) & 1) === 1;
}

/** Bit 0 of an L2 entry. */
export function isZero({ low }: Entry): boolean {
  return (low & 1) === 1;
}

function entryAt(table: DataView, index: number): Entry {
  return { high: table.getUint32(index * 8), low: table.getUint32(index * 8 + 4) };
}

function numberAt(view: DataView, offset: number): number {
  return view.getUint32(offset) * 0x100000000 + view.getUint32(offset + 4);
}
