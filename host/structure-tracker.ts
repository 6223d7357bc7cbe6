/**
 * Knows what an engine's I/O on a qcow2 file is about, from nothing but the I/O itself: the tables that were read or
 * written say what lies where. For the events of an error injector; nothing else depends on it.
 */

/** What lies in a host cluster, as far as it was seen. */
type Use = 'l2' | 'refblock' | 'data';

/** Clusters that are remembered; beyond that more seem to be new than are. */
const REMEMBERED = 1 << 20;
const HEADER_LENGTH = 104;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
/** Bits of a standard L2 entry that are never set. */
const L2_RESERVED = 0x3f00_0000_0000_01fen;
const ENTRY = 8;

interface Layout {
  readonly clusterSize: number;
  readonly l1Offset: number;
  readonly l1Length: number;
  readonly refcountTableOffset: number;
  readonly refcountTableLength: number;
  readonly extendedL2: boolean;
}

export class StructureTracker {
  private layout: Layout | undefined;
  private readonly uses = new Map<number, Use>();
  /** Where compressed clusters begin. */
  private readonly compressed = new Set<number>();
  /** Memories of engines: whatever comes from there is no guest's. */
  private readonly modules = new WeakSet<ArrayBufferLike>();

  /** Events before these bytes of the file are read. */
  beforeRead(offset: number, target: Uint8Array): readonly string[] {
    // An engine begins with the header, and never reads a guest's bytes from there.
    if (offset === 0) this.modules.add(target.buffer);
    if (!this.modules.has(target.buffer)) {
      if (this.compressed.has(offset)) return ['read_compressed'];
      return [this.isPrivate(target) ? 'cow_read' : 'read_aio'];
    }
    switch (this.structureAt(offset)) {
      case 'l2':
        return ['l2_load'];
      case 'refblock':
        return ['refblock_load'];
      case 'refcount table':
        return ['reftable_load'];
      default:
        return [];
    }
  }

  /** Looks at bytes that were read. */
  afterRead(offset: number, target: Uint8Array): void {
    if (this.modules.has(target.buffer)) this.learn(offset, target);
  }

  /** Events before the pieces are written one behind the other. */
  beforeWrite(offset: number, pieces: readonly Uint8Array[]): readonly string[] {
    const table = pieces.find((piece) => this.modules.has(piece.buffer));
    if (table === undefined) return this.guestWrite(offset, pieces);
    switch (this.structureAt(offset)) {
      case 'header':
        return this.headerChange(table);
      case 'l1':
        return ['l1_update'];
      case 'refcount table':
        return ['reftable_update', 'refblock_alloc_hookup'];
      case 'l2':
        return ['l2_update'];
      case 'refblock':
        return ['refblock_update', 'refblock_update_part'];
      default:
        return this.looksLikeL2(table)
          ? ['cluster_alloc', 'l2_alloc_write', 'l2_update']
          : ['refblock_alloc', 'refblock_alloc_write', 'refblock_update_part'];
    }
  }

  /** Looks at bytes that were written. */
  afterWrite(offset: number, pieces: readonly Uint8Array[]): void {
    const isTable = pieces.some((piece) => this.modules.has(piece.buffer));
    let position = offset;
    for (const piece of pieces) {
      if (isTable && this.modules.has(piece.buffer)) this.learn(position, piece);
      position += piece.length;
    }
    const structure = this.structureAt(offset);
    if (!isTable) {
      this.remember(offset, position - offset, 'data');
      if (this.isCompressed(pieces)) this.rememberCompressed(offset);
    } else if (structure === undefined || structure === 'data') {
      const table = pieces.find((piece) => this.modules.has(piece.buffer)) as Uint8Array;
      this.remember(offset, 1, this.looksLikeL2(table) ? 'l2' : 'refblock');
      if (this.looksLikeL2(table)) this.learn(offset, table);
    }
  }

  /** In one of the host's own scratch buffers, which are two clusters long. */
  isPrivate(bytes: Uint8Array): boolean {
    return this.layout !== undefined && bytes.buffer.byteLength === 2 * this.layout.clusterSize;
  }

  private structureAt(offset: number): Use | 'header' | 'l1' | 'refcount table' | undefined {
    const { layout } = this;
    if (layout === undefined) return undefined;
    if (offset < layout.clusterSize) return 'header';
    if (isIn(offset, layout.l1Offset, layout.l1Length)) return 'l1';
    if (isIn(offset, layout.refcountTableOffset, layout.refcountTableLength)) return 'refcount table';
    return this.uses.get(Math.floor(offset / layout.clusterSize));
  }

  private guestWrite(offset: number, pieces: readonly Uint8Array[]): string[] {
    const { layout } = this;
    if (layout === undefined) return ['write_aio'];
    const isNew = !this.uses.has(Math.floor(offset / layout.clusterSize));
    if (this.isCompressed(pieces)) return ['cluster_alloc_bytes', 'l2_update_compressed', 'write_compressed'];
    const event = pieces.every((piece) => this.isPrivate(piece)) ? 'cow_write' : 'write_aio';
    return isNew ? ['cluster_alloc', event] : [event];
  }

  /** From the start of a scratch buffer, and shorter than a cluster: as long as it became. */
  private isCompressed([piece, ...more]: readonly Uint8Array[]): boolean {
    const { layout } = this;
    if (layout === undefined || piece === undefined || more.length > 0 || !this.isPrivate(piece)) return false;
    return piece.byteOffset === 0 && piece.length < layout.clusterSize;
  }

  private headerChange(header: Uint8Array): string[] {
    const before = this.layout;
    const after = readLayout(header);
    if (before === undefined || after === undefined) return [];
    const events: string[] = [];
    if (after.refcountTableOffset !== before.refcountTableOffset) events.push('refblock_alloc_switch_table');
    if (after.l1Offset !== before.l1Offset) events.push('l1_grow_activate_table');
    return events;
  }

  private learn(offset: number, bytes: Uint8Array): void {
    if (offset === 0) this.layout = readLayout(bytes) ?? this.layout;
    const { layout } = this;
    if (layout === undefined) return;
    const structure = this.structureAt(offset);
    if (structure === 'l1') {
      for (const entry of entriesOf(bytes, ENTRY)) this.remember(Number(entry & OFFSET_MASK), 1, 'l2');
    } else if (structure === 'refcount table') {
      for (const entry of entriesOf(bytes, ENTRY)) this.remember(Number(entry & OFFSET_MASK), 1, 'refblock');
    } else if (structure === 'l2') {
      for (const entry of entriesOf(bytes, layout.extendedL2 ? 2 * ENTRY : ENTRY)) {
        if ((entry & COMPRESSED) === 0n) this.remember(Number(entry & OFFSET_MASK), 1, 'data');
        else this.rememberCompressed(compressedOffset(entry, layout.clusterSize));
      }
    }
  }

  private remember(offset: number, length: number, use: Use): void {
    const { layout } = this;
    if (layout === undefined || offset < layout.clusterSize) return;
    const end = Math.ceil((offset + length) / layout.clusterSize);
    for (let cluster = Math.floor(offset / layout.clusterSize); cluster < end; cluster++) {
      if (this.uses.size >= REMEMBERED) return;
      this.uses.set(cluster, use);
    }
  }

  private rememberCompressed(offset: number): void {
    if (this.compressed.size < REMEMBERED) this.compressed.add(offset);
    this.remember(offset, 1, 'data');
  }

  /** A new table holds entries of clusters, or refcounts, which look different. */
  private looksLikeL2(table: Uint8Array): boolean {
    const { layout } = this;
    if (layout === undefined) return false;
    return entriesOf(table, layout.extendedL2 ? 2 * ENTRY : ENTRY).every(
      (entry) => (entry & COMPRESSED) !== 0n || isStandardEntry(entry, layout.clusterSize),
    );
  }
}

/** The low bits of the descriptor; the others say how long it is. */
function compressedOffset(entry: bigint, clusterSize: number): number {
  return Number(entry & ((1n << BigInt(70 - Math.log2(clusterSize))) - 1n));
}

function isStandardEntry(entry: bigint, clusterSize: number): boolean {
  const offset = entry & OFFSET_MASK;
  return (entry & L2_RESERVED) === 0n && offset % BigInt(clusterSize) === 0n && offset < 1n << 48n;
}

function isIn(offset: number, start: number, length: number): boolean {
  return offset >= start && offset < start + length;
}

function entriesOf(bytes: Uint8Array, step: number): bigint[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries: bigint[] = [];
  for (let at = 0; at + ENTRY <= bytes.length; at += step) {
    const entry = view.getBigUint64(at);
    if (entry !== 0n) entries.push(entry);
  }
  return entries;
}

/** From the fields of a header; undefined for bytes that are none. */
function readLayout(bytes: Uint8Array): Layout | undefined {
  if (bytes.length < HEADER_LENGTH) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const clusterBits = view.getUint32(20);
  if (view.getUint32(0) !== 0x514649fb || clusterBits < 9 || clusterBits > 21) return undefined;
  const clusterSize = 2 ** clusterBits;
  return {
    clusterSize,
    l1Offset: Number(view.getBigUint64(40)),
    l1Length: view.getUint32(36) * ENTRY,
    refcountTableOffset: Number(view.getBigUint64(48)),
    refcountTableLength: view.getUint32(56) * clusterSize,
    extendedL2: view.getUint32(4) >= 3 && (view.getUint32(76) & 16) !== 0,
  };
}
