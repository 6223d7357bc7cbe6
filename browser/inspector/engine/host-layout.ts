/**
 * What every cluster of an image file is used for. Nothing here is trusted: an entry that points outside the file is left
 * out, a table is followed once, and the verdict is the inspection's, not this picture's.
 */

import type { BlockFile } from '../../../host/block-file.js';
import { CorralError } from '../../../host/errors.js';
import type { ImageFacts } from '../../../host/image-facts.js';
import { HOST_KINDS, type HostKind } from '../protocol.js';
import { entryOffset, entryPlace, isZero, refcountAt } from './host-entries.js';
import { type BitmapPlace, readBitmapPlaces, readExtensions, readSnapshotTable } from './host-tables.js';

/** Clusters of a file that can be shown: a byte of memory each. */
const MOST_CLUSTERS = 2 ** 26;
/** Bytes of L1 tables of all snapshots together. */
const MOST_L1_BYTES = 2 ** 28;
const AT_ONCE = 8;
const REPORT_INTERVAL = 100;

const CODE = Object.fromEntries(HOST_KINDS.map((kind, code) => [kind, code])) as Record<HostKind, number>;
const FIRST_DATA = CODE.data;

export interface LayoutWatch {
  readonly signal?: AbortSignal | undefined;
  readonly onReport?: ((done: number, total: number) => void) | undefined;
}

export class HostLayout {
  readonly clusterSize: number;
  readonly fileLength: number;
  /** A code of `HOST_KINDS` for each cluster. */
  readonly kinds: Uint8Array;
  /** Guest offset at which each L2 table begins, by its host offset; of the disk as it is. */
  readonly l2Tables = new Map<number, number>();
  /** First host offset of which each refcount block tells, by its host offset. */
  readonly refcountBlocks = new Map<number, number>();
  private readonly clusterBits: number;
  private readonly seen = new Set<number>();
  private done = 0;
  private planned = 0;
  private reported = performance.now();

  constructor(
    private readonly file: Pick<BlockFile, 'read'>,
    readonly facts: ImageFacts,
  ) {
    this.clusterSize = facts.clusterSize;
    this.clusterBits = Math.log2(facts.clusterSize);
    this.fileLength = facts.fileLength;
    const count = Math.ceil(facts.fileLength / facts.clusterSize);
    if (count > MOST_CLUSTERS) {
      const reason = `The file has ${count} clusters, of which at most ${MOST_CLUSTERS} can be shown`;
      throw new CorralError('ERR_TOO_LARGE', { reason });
    }
    this.kinds = new Uint8Array(count);
  }

  /** Follows every table. After a cancellation it may be called again, and begins anew with what it knows. */
  async walk(watch: LayoutWatch): Promise<void> {
    this.seen.clear();
    this.done = 0;
    this.mark(0, 1, 'header');
    const { facts } = this;
    const extensions = await readExtensions(this.file, facts);
    for (const { offset, length } of extensions.encryption) this.mark(offset, length, 'encryption');
    const blocks = await this.refcountTable();
    this.planned = blocks.length + facts.l1Size;
    await this.follow(facts.l1TableOffset, facts.l1Size, 'data', watch);
    await this.snapshots(watch);
    await this.bitmaps(extensions.bitmaps, watch);
    await this.leaks(blocks, watch);
  }

  /** Kind of the cluster at an offset. */
  kindAt(offset: number): HostKind {
    const code = this.kinds[Math.floor(offset / this.clusterSize)];
    return HOST_KINDS[code ?? 0] as HostKind;
  }

  /** The stretch of one kind around an offset. */
  stretchAt(offset: number): { offset: number; length: number } {
    const cluster = Math.floor(offset / this.clusterSize);
    const code = this.kinds[cluster];
    let first = cluster;
    while (first > 0 && this.kinds[first - 1] === code) first--;
    let end = cluster + 1;
    while (end < this.kinds.length && this.kinds[end] === code) end++;
    const start = first * this.clusterSize;
    return { offset: start, length: Math.min(end * this.clusterSize, this.fileLength) - start };
  }

  /** Stretches of one kind between two offsets. */
  *between(from: number, to: number): Generator<{ offset: number; length: number; kind: number }> {
    const last = Math.min(this.kinds.length, Math.ceil(to / this.clusterSize));
    for (let cluster = Math.floor(from / this.clusterSize); cluster < last; ) {
      const kind = this.kinds[cluster] as number;
      let end = cluster + 1;
      while (end < last && this.kinds[end] === kind) end++;
      const offset = cluster * this.clusterSize;
      yield { offset, length: Math.min(end * this.clusterSize, this.fileLength) - offset, kind };
      cluster = end;
    }
  }

  private async refcountTable(): Promise<number[]> {
    const { refcountTableOffset, refcountTableClusters, refcountBits } = this.facts;
    const length = refcountTableClusters * this.clusterSize;
    this.mark(refcountTableOffset, length, 'refcounts');
    const table = await this.bytes(refcountTableOffset, length);
    const view = viewOf(table);
    const blocks: number[] = [];
    const span = ((this.clusterSize * 8) / refcountBits) * this.clusterSize;
    for (let at = 0; at + 8 <= table.length; at += 8) {
      const offset = entryOffset(view, at);
      if (offset === 0 || offset >= this.fileLength) continue;
      this.mark(offset, this.clusterSize, 'refcounts');
      this.refcountBlocks.set(offset, (at / 8) * span);
      blocks.push(offset);
    }
    return blocks;
  }

  /** An L1 table, its L2 tables, and what these name. */
  private async follow(l1Offset: number, l1Size: number, kind: HostKind, watch: LayoutWatch): Promise<void> {
    this.mark(l1Offset, l1Size * 8, 'l1');
    const table = await this.bytes(l1Offset, l1Size * 8);
    const view = viewOf(table);
    const entrySize = this.facts.extendedL2 ? 16 : 8;
    const span = (this.clusterSize / entrySize) * this.clusterSize;
    const tables: number[] = [];
    for (let at = 0; at + 8 <= table.length; at += 8) {
      const offset = entryOffset(view, at);
      if (offset === 0 || offset >= this.fileLength || this.seen.has(offset)) continue;
      this.seen.add(offset);
      this.mark(offset, this.clusterSize, 'l2');
      if (kind === 'data') this.l2Tables.set(offset, (at / 8) * span);
      tables.push(offset);
    }
    this.planned += tables.length - (kind === 'data' ? l1Size : 0);
    await this.each(tables, watch, async (offset) => this.l2Table(await this.bytes(offset, this.clusterSize), kind));
  }

  private l2Table(table: Uint8Array, kind: HostKind): void {
    if (this.facts.hasDataFile || isZero(table)) return;
    const view = viewOf(table);
    const step = this.facts.extendedL2 ? 16 : 8;
    for (let at = 0; at < table.length; at += step) {
      const place = entryPlace(view, at, this.clusterBits);
      if (place === undefined) continue;
      const compressed = place.compressed && kind === 'data';
      this.mark(place.offset, place.length, compressed ? 'compressed' : kind);
    }
  }

  private async snapshots(watch: LayoutWatch): Promise<void> {
    const table = await readSnapshotTable(this.file, this.facts);
    this.mark(table.offset, table.length, 'snapshots');
    let l1Bytes = 0;
    for (const { l1Offset, l1Size } of table.entries) {
      l1Bytes += l1Size * 8;
      if (l1Bytes > MOST_L1_BYTES || l1Offset + l1Size * 8 > this.fileLength) continue;
      await this.follow(l1Offset, l1Size, 'snapshot data', watch);
    }
  }

  private async bitmaps(directory: BitmapPlace | undefined, watch: LayoutWatch): Promise<void> {
    if (directory === undefined) return;
    this.mark(directory.offset, directory.length, 'bitmaps');
    const tables = await readBitmapPlaces(this.file, directory, this.fileLength);
    await this.each(tables, watch, async ({ offset, length }) => {
      this.mark(offset, length, 'bitmaps');
      const table = await this.bytes(offset, length);
      const view = viewOf(table);
      for (let at = 0; at + 8 <= table.length; at += 8) this.mark(entryOffset(view, at), this.clusterSize, 'bitmaps');
    });
  }

  /** A cluster that nothing names, and that is counted all the same. */
  private async leaks(blocks: readonly number[], watch: LayoutWatch): Promise<void> {
    const { refcountBits } = this.facts;
    const each = (this.clusterSize * 8) / refcountBits;
    await this.each(blocks, watch, async (offset) => {
      const block = await this.bytes(offset, this.clusterSize);
      if (isZero(block)) return;
      const first = (this.refcountBlocks.get(offset) as number) / this.clusterSize;
      const count = Math.min(each, this.kinds.length - first);
      for (let index = 0; index < count; index++) {
        if (this.kinds[first + index] !== CODE.free) continue;
        if (refcountAt(block, index, refcountBits) > 0) this.kinds[first + index] = CODE.leaked;
      }
    });
  }

  /** Some at a time; reports, and ends when cancelled. */
  private async each<T>(items: readonly T[], watch: LayoutWatch, work: (item: T) => Promise<void>): Promise<void> {
    const { signal, onReport } = watch;
    for (let start = 0; start < items.length; start += AT_ONCE) {
      signal?.throwIfAborted();
      await Promise.all(items.slice(start, start + AT_ONCE).map(work));
      this.done += Math.min(AT_ONCE, items.length - start);
      if (performance.now() - this.reported < REPORT_INTERVAL) continue;
      this.reported = performance.now();
      onReport?.(this.done, Math.max(this.planned, this.done));
      await new Promise((resolve) => setTimeout(resolve));
    }
  }

  /** Metadata shows over data, and what was first stays otherwise. */
  private mark(offset: number, length: number, kind: HostKind): void {
    if (offset === 0 && kind !== 'header') return;
    const code = CODE[kind];
    const end = Math.min(this.kinds.length, Math.ceil((offset + length) / this.clusterSize));
    for (let cluster = Math.floor(offset / this.clusterSize); cluster < end; cluster++) {
      const before = this.kinds[cluster] as number;
      const yields = before >= FIRST_DATA && code < FIRST_DATA;
      if (before === CODE.free || before === CODE.leaked || yields) this.kinds[cluster] = code;
    }
  }

  /** Cut off at the end of the file. */
  private async bytes(offset: number, length: number): Promise<Uint8Array> {
    const target = new Uint8Array(Math.max(0, Math.min(length, this.fileLength - offset)) & ~7);
    if (target.length > 0) await this.file.read(offset, target);
    return target;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
