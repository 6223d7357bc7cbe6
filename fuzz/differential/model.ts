/** What a guest must find: the disk's bytes, those of each snapshot, and the bitmaps, kept the plain way. */

import { BitmapModel } from './bitmap-model.js';
import { fillWith } from './noise.js';
import type { AmendChange, GuestStep, Plan, Step } from './plan.js';

export class Model {
  bytes: Uint8Array;
  readonly snapshots = new Map<string, Uint8Array>();
  readonly bitmaps = new BitmapModel();
  /** Numbers of the clusters of which each engine may make what it likes: see the README. */
  readonly looseClusters = new Set<number>();
  private compat: '0.10' | '1.1';
  private refcountBits: number;

  constructor(
    private readonly plan: Plan,
    contents: Uint8Array,
  ) {
    this.bytes = contents;
    this.compat = plan.image.compat;
    this.refcountBits = plan.image.refcountBits;
  }

  /**
   * The step as it can be carried out now: a range is cut to the disk, and what is impossible (a name that is taken, a
   * snapshot that is not there) is left out.
   */
  possible(step: Step): Step | undefined {
    switch (step.kind) {
      case 'flush':
      case 'reopen':
        return step;
      case 'resize':
        return this.possibleResize(step.size);
      case 'amend':
        return this.canAmend(step.change) ? step : undefined;
      case 'bitmap':
        return this.compat === '1.1' && this.hasRoomForBitmaps() && this.bitmaps.canDo(step) ? step : undefined;
      case 'snapshot':
        return this.snapshots.has(step.name) ? undefined : step;
      case 'apply':
        // QEMU applies none while there are bitmaps.
        return this.snapshots.has(step.name) && !this.bitmaps.any ? step : undefined;
      case 'delete':
        return this.snapshots.has(step.name) ? step : undefined;
      case 'compressed':
        return step.offset + step.length <= this.bytes.length && this.endsWell(step) && this.canDiscard()
          ? step
          : undefined;
      default: {
        const length = Math.min(step.length, this.bytes.length - step.offset);
        return length > 0 ? { ...step, length } : undefined;
      }
    }
  }

  /** Carries out a step that is possible. */
  apply(step: Step): void {
    switch (step.kind) {
      case 'flush':
      case 'reopen':
        return;
      case 'resize':
        this.resize(step.size);
        return;
      case 'amend':
        this.amend(step.change);
        return;
      case 'bitmap':
        this.bitmaps.perform(step, this.bytes.length);
        return;
      case 'snapshot':
        this.snapshots.set(step.name, this.bytes.slice());
        return;
      case 'apply':
        this.bytes = (this.snapshots.get(step.name) as Uint8Array).slice();
        return;
      case 'delete':
        this.snapshots.delete(step.name);
        return;
      default:
        this.bitmaps.note(step.offset, step.length);
        this.change(step);
    }
  }

  private change(step: GuestStep): void {
    if (step.kind === 'discard') this.discard(step);
    else fillWith('value' in step ? step.value : 0, this.bytes.subarray(step.offset, step.offset + step.length));
    this.loosenEdges(step);
  }

  private loosenEdges(step: GuestStep): void {
    const { backing, extendedL2 } = this.plan.image;
    const end = step.offset + step.length;
    const { kind } = step;
    // Whether the rest of a cluster reads as zeros QEMU asks the backing file, too.
    if (backing !== undefined && (kind === 'zero' || kind === 'unmap')) {
      this.loosen(step.offset, step.offset);
      this.loosen(end, end);
    }
    // A cluster that a snapshot shares: QEMU copies what lies between the written subclusters and the others, too.
    if (extendedL2 && this.snapshots.size > 0) {
      this.loosen(step.offset, step.offset);
      this.loosen(end, end);
    }
    // The last cluster of the disk, of which only a part is there.
    if (end === this.bytes.length && (kind === 'compressed' || (extendedL2 && kind === 'unmap'))) this.loosen(end, end);
  }

  /** The clusters from one guest byte to another one, those included that are cut there. */
  private loosen(start: number, end: number): void {
    const { clusterSize } = this.plan.image;
    for (let cluster = Math.floor(start / clusterSize); cluster < Math.ceil(end / clusterSize); cluster++) {
      this.looseClusters.add(cluster);
    }
  }

  private resize(size: number): void {
    const { backing } = this.plan.image;
    // Where the disk ended, or what a backing file may have there.
    if (size > this.bytes.length) this.loosen(this.bytes.length, backing === undefined ? this.bytes.length : size);
    const bytes = new Uint8Array(size);
    bytes.set(this.bytes.subarray(0, size));
    this.bytes = bytes;
    this.bitmaps.resize(size);
  }

  /** Version 2 cannot say that a backing file is hidden. */
  private canDiscard(): boolean {
    return this.compat === '1.1' || this.plan.image.backing === undefined;
  }

  /** Whole clusters only, the last one of the disk included. */
  private discard({ offset, length }: GuestStep): void {
    if (!this.canDiscard()) return;
    const { clusterSize } = this.plan.image;
    const start = Math.ceil(offset / clusterSize) * clusterSize;
    const last = offset + length === this.bytes.length;
    const end = last ? this.bytes.length : Math.floor((offset + length) / clusterSize) * clusterSize;
    if (start < end) this.bytes.fill(0, start, end);
  }

  /**
   * The header of 512 bytes has room for a backing file or for bitmaps, unless it is written anew, as QEMU does. So has one of
   * 1024 with our names of features: the backing file's name is moved to sectors of its own, and there are none.
   */
  private hasRoomForBitmaps(): boolean {
    return this.plan.image.clusterSize > 1024 || this.plan.image.backing === undefined;
  }

  /** Ends with a cluster, or with the disk. */
  private endsWell({ offset, length }: GuestStep): boolean {
    const end = offset + length;
    return end % this.plan.image.clusterSize === 0 || end === this.bytes.length;
  }

  /** Version 2 does not note the size that a disk had. A shrunk disk ends with a cluster: what is left of one comes back. */
  private possibleResize(wanted: number): Step | undefined {
    const { clusterSize } = this.plan.image;
    const shrinks = wanted < this.bytes.length;
    const size = shrinks ? Math.ceil(wanted / clusterSize) * clusterSize : wanted;
    if (this.bitmaps.any || this.plan.image.dataFile !== 'none') return undefined;
    // QEMU does not hide what a backing file has behind the old end by writing zeros, which is all that version 2 allows.
    if (!shrinks && this.compat === '0.10' && this.plan.image.backing !== undefined) return undefined;
    const possible =
      !this.bitmaps.any && size !== this.bytes.length && (this.compat === '1.1' || this.snapshots.size === 0);
    return possible ? { kind: 'resize', size: Math.min(size, Math.max(this.bytes.length, wanted)) } : undefined;
  }

  private canAmend(change: AmendChange): boolean {
    const { extendedL2, compressionType, dataFile } = this.plan.image;
    if ('refcountBits' in change) return this.compat === '1.1' && change.refcountBits !== this.refcountBits;
    if ('lazyRefcounts' in change) return this.compat === '1.1';
    if (change.compat === '1.1') return this.compat === '0.10';
    const ofVersion3 = extendedL2 || compressionType === 'zstd' || dataFile !== 'none' || this.refcountBits !== 16;
    return this.compat === '1.1' && !ofVersion3 && !this.bitmaps.any && this.snapshots.size === 0;
  }

  private amend(change: AmendChange): void {
    if ('compat' in change) this.compat = change.compat;
    else if ('refcountBits' in change) this.refcountBits = change.refcountBits;
  }
}
