/** Where everything lies in a valid image: each field and each table entry, as places that a mutation may change. */

export type SpotKind =
  | 'header'
  | 'extension'
  | 'l1'
  | 'l2'
  | 'subclusters'
  | 'refcountTable'
  | 'refcount'
  | 'snapshot'
  | 'bitmap'
  | 'bitmapTable';

/** A number in the image; `size` is its bytes. Refcounts below a byte are changed with their neighbours. */
export interface Spot {
  readonly kind: SpotKind;
  readonly name: string;
  readonly offset: number;
  readonly size: 1 | 2 | 4 | 8;
}

export interface Layout {
  readonly clusterSize: number;
  readonly virtualSize: number;
  /** By kind; only kinds that the image has. */
  readonly spots: ReadonlyMap<SpotKind, readonly Spot[]>;
  /** Host offsets at which something begins: tables, data, the end of the file. */
  readonly places: readonly number[];
}

const OFFSET_MASK = 0x00fffffffffffe00n;
const COMPRESSED = 1n << 62n;
const EXTENDED_L2 = 16n;
/** Entries of zero of one table that are worth a mutation each. */
const ZERO_ENTRIES = 4;

const HEADER_FIELDS: readonly (readonly [string, number, 1 | 4 | 8])[] = [
  ['magic', 0, 4],
  ['version', 4, 4],
  ['backing_file_offset', 8, 8],
  ['backing_file_size', 16, 4],
  ['cluster_bits', 20, 4],
  ['size', 24, 8],
  ['crypt_method', 32, 4],
  ['l1_size', 36, 4],
  ['l1_table_offset', 40, 8],
  ['refcount_table_offset', 48, 8],
  ['refcount_table_clusters', 56, 4],
  ['nb_snapshots', 60, 4],
  ['snapshots_offset', 64, 8],
];

const HEADER_FIELDS_V3: typeof HEADER_FIELDS = [
  ['incompatible_features', 72, 8],
  ['compatible_features', 80, 8],
  ['autoclear_features', 88, 8],
  ['refcount_order', 96, 4],
  ['header_length', 100, 4],
  ['compression_type', 104, 1],
];

const SNAPSHOT_FIELDS: typeof HEADER_FIELDS = [
  ['l1_table_offset', 0, 8],
  ['l1_size', 8, 4],
  ['vm_state_size', 32, 4],
  ['extra_data_size', 36, 4],
  ['vm_state_size_large', 40, 8],
  ['virtual_disk_size', 48, 8],
];

const BITMAP_FIELDS: typeof HEADER_FIELDS = [
  ['bitmap_table_offset', 0, 8],
  ['bitmap_table_size', 8, 4],
  ['flags', 12, 4],
  ['type', 16, 1],
  ['granularity_bits', 17, 1],
  ['extra_data_size', 20, 4],
];

/** Walks a valid image. */
export function findLayout(bytes: Uint8Array): Layout {
  return new Walk(bytes).run();
}

class Walk {
  private readonly view: DataView;
  private readonly spots = new Map<SpotKind, Spot[]>();
  private readonly places = new Set<number>([0]);
  private readonly clusterSize: number;
  private readonly version: number;
  private readonly entrySize: 8 | 16;
  private readonly seenTables = new Set<number>();

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.clusterSize = 2 ** this.view.getUint32(20);
    this.version = this.view.getUint32(4);
    const extended = this.version >= 3 && (this.view.getBigUint64(72) & EXTENDED_L2) !== 0n;
    this.entrySize = extended ? 16 : 8;
  }

  run(): Layout {
    this.addFields('header', 0, HEADER_FIELDS);
    if (this.version >= 3) this.addFields('header', 0, HEADER_FIELDS_V3);
    this.walkExtensions();
    this.walkL1(this.number(40), this.view.getUint32(36));
    this.walkRefcounts();
    this.walkSnapshots();
    this.places.add(Math.ceil(this.bytes.length / this.clusterSize) * this.clusterSize);
    return {
      clusterSize: this.clusterSize,
      virtualSize: this.number(24),
      spots: this.spots,
      places: [...this.places],
    };
  }

  private walkExtensions(): void {
    let offset = this.version >= 3 ? this.view.getUint32(100) : 72;
    while (offset + 8 <= Math.min(this.clusterSize, this.bytes.length)) {
      this.add('extension', 'type', offset, 4);
      this.add('extension', 'length', offset + 4, 4);
      const type = this.view.getUint32(offset);
      const length = this.view.getUint32(offset + 4);
      if (type === 0) return;
      offset += 8;
      if (type === 0x23852875) this.walkBitmaps(offset);
      offset += (length + 7) & ~7;
    }
  }

  private walkL1(offset: number, entryCount: number): void {
    this.places.add(offset);
    for (const entry of this.entries('l1', 'entry', offset, entryCount)) {
      const table = Number(entry & OFFSET_MASK);
      if (table !== 0) this.walkL2(table);
    }
  }

  private walkL2(offset: number): void {
    if (this.seenTables.has(offset)) return;
    this.seenTables.add(offset);
    this.places.add(offset);
    const count = this.clusterSize / this.entrySize;
    let index = 0;
    for (const entry of this.entries('l2', 'entry', offset, count, this.entrySize)) {
      if (this.entrySize === 16 && entry !== 0n) {
        const bitmaps = offset + index * 16 + 8;
        this.add('subclusters', 'zero bits', bitmaps, 4);
        this.add('subclusters', 'allocation bits', bitmaps + 4, 4);
      }
      if ((entry & COMPRESSED) === 0n && entry !== 0n) this.places.add(Number(entry & OFFSET_MASK));
      index++;
    }
  }

  private walkRefcounts(): void {
    const table = this.number(48);
    const order = this.version >= 3 ? this.view.getUint32(96) : 4;
    const clusters = Math.ceil(this.bytes.length / this.clusterSize);
    const perBlock = (this.clusterSize * 8) >> order;
    this.places.add(table);
    const blocks = [...this.entries('refcountTable', 'entry', table, (this.view.getUint32(56) * this.clusterSize) / 8)];
    blocks.forEach((entry, index) => {
      const block = Number(entry & OFFSET_MASK);
      if (block === 0) return;
      this.places.add(block);
      const counts = Math.min(perBlock, Math.max(8, clusters + 2 - index * perBlock));
      const size = Math.max(1, 2 ** (order - 3)) as Spot['size'];
      const step = 2 ** Math.max(0, 3 - order);
      for (let count = 0; count < counts; count += step) {
        this.add('refcount', `of cluster ${index * perBlock + count}`, block + (count / step) * size, size);
      }
    });
  }

  private walkSnapshots(): void {
    const count = this.view.getUint32(60);
    let offset = this.number(64);
    if (count > 0) this.places.add(offset);
    for (let index = 0; index < count; index++) {
      const extra = this.view.getUint32(offset + 36);
      this.addFields('snapshot', offset, extra < 16 ? SNAPSHOT_FIELDS.slice(0, 4) : SNAPSHOT_FIELDS);
      this.add('snapshot', 'id_size', offset + 12, 2);
      this.add('snapshot', 'name_size', offset + 14, 2);
      this.walkL1(this.number(offset), this.view.getUint32(offset + 8));
      const names = this.view.getUint16(offset + 12) + this.view.getUint16(offset + 14);
      offset += (40 + extra + names + 7) & ~7;
    }
  }

  private walkBitmaps(extension: number): void {
    this.add('bitmap', 'nb_bitmaps', extension, 4);
    this.add('bitmap', 'directory_size', extension + 8, 8);
    this.add('bitmap', 'directory_offset', extension + 16, 8);
    let offset = this.number(extension + 16);
    this.places.add(offset);
    for (let index = 0; index < this.view.getUint32(extension); index++) {
      this.addFields('bitmap', offset, BITMAP_FIELDS);
      this.add('bitmap', 'name_size', offset + 18, 2);
      const table = this.number(offset);
      this.places.add(table);
      for (const entry of this.entries('bitmapTable', 'entry', table, this.view.getUint32(offset + 8))) {
        if ((entry & OFFSET_MASK) !== 0n) this.places.add(Number(entry & OFFSET_MASK));
      }
      offset += (24 + this.view.getUint32(offset + 20) + this.view.getUint16(offset + 18) + 7) & ~7;
    }
  }

  /** The entries of a table; those that are worth it become spots. */
  private *entries(kind: SpotKind, name: string, offset: number, count: number, stride = 8): Generator<bigint> {
    let zeros = 0;
    for (let index = 0; index < count; index++) {
      const position = offset + index * stride;
      if (position + stride > this.bytes.length) return;
      const entry = this.view.getBigUint64(position);
      if (entry !== 0n || zeros++ < ZERO_ENTRIES || index === count - 1) {
        this.add(kind, `${name} ${index} of the table at ${offset}`, position, 8);
      }
      yield entry;
    }
  }

  private addFields(kind: SpotKind, base: number, fields: typeof HEADER_FIELDS): void {
    for (const [name, offset, size] of fields) this.add(kind, name, base + offset, size);
  }

  private add(kind: SpotKind, name: string, offset: number, size: Spot['size']): void {
    if (offset + size > this.bytes.length) return;
    const list = this.spots.get(kind);
    if (list === undefined) this.spots.set(kind, [{ kind, name, offset, size }]);
    else list.push({ kind, name, offset, size });
  }

  private number(offset: number): number {
    return Number(this.view.getBigUint64(offset));
  }
}
