/** Adds stretches up to cells of a picture. */

import type { MapPicture } from '../protocol.js';

/** A stretch, and which kind it is of, by its number. */
export interface Stretch {
  readonly offset: number;
  readonly length: number;
  readonly kind: number;
}

export interface Frame {
  readonly from: number;
  readonly to: number;
  readonly cells: number;
  /** A cell is a whole number of these. */
  readonly unit: number;
}

export class PictureBuilder {
  readonly cellLength: number;
  readonly count: number;
  private readonly weights: Float64Array;
  private readonly totals: number[];

  constructor(
    private readonly frame: Frame,
    private readonly kinds: number,
  ) {
    const { from, to, cells, unit } = frame;
    this.cellLength = Math.max(unit, Math.ceil((to - from) / Math.max(1, cells) / unit) * unit);
    this.count = Math.ceil((to - from) / this.cellLength);
    this.weights = new Float64Array(this.count * kinds);
    this.totals = new Array(kinds).fill(0);
  }

  /** What lies outside the frame is left out. */
  add({ offset, length, kind }: Stretch): void {
    const { from, to } = this.frame;
    const start = Math.max(offset, from);
    const end = Math.min(offset + length, to);
    if (start >= end) return;
    this.totals[kind] = (this.totals[kind] as number) + end - start;
    const last = Math.floor((end - 1 - from) / this.cellLength);
    for (let cell = Math.floor((start - from) / this.cellLength); cell <= last; cell++) {
      const cellStart = from + cell * this.cellLength;
      const inside = Math.min(end, cellStart + this.cellLength) - Math.max(start, cellStart);
      const at = cell * this.kinds + kind;
      this.weights[at] = (this.weights[at] as number) + inside;
    }
  }

  /** A copy of what there is; `known` says up to where that is everything. */
  picture(known: number): MapPicture {
    const { from, to } = this.frame;
    const { cellLength, count } = this;
    return { from, to, cellLength, count, weights: this.weights.slice(), totals: [...this.totals], known };
  }
}
