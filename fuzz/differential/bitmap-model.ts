/** What the persistent bitmaps of an image must say, kept the plain way: one flag for each bit. */

import type { BitmapStep } from './plan.js';

interface ModelBitmap {
  readonly granularity: number;
  enabled: boolean;
  /** 1 where the bit is set. */
  bits: Uint8Array;
}

/** A bitmap as it is compared: with the numbers of the bits that are set. */
export interface BitmapState {
  readonly name: string;
  readonly granularity: number;
  readonly enabled: boolean;
  readonly bits: readonly number[];
}

export class BitmapModel {
  private readonly bitmaps = new Map<string, ModelBitmap>();

  get any(): boolean {
    return this.bitmaps.size > 0;
  }

  /** Whether no engine would refuse it. */
  canDo(step: BitmapStep): boolean {
    if (step.verb === 'add') return !this.bitmaps.has(step.name);
    if (step.verb !== 'merge') return this.bitmaps.has(step.name);
    return step.name !== step.source && this.bitmaps.has(step.name) && this.bitmaps.has(step.source);
  }

  /** Carries out what `canDo` says is possible; `size` is that of the disk. */
  perform(step: BitmapStep, size: number): void {
    if (step.verb === 'add') {
      const { name, granularity } = step;
      this.bitmaps.set(name, { granularity, enabled: true, bits: new Uint8Array(Math.ceil(size / granularity)) });
      return;
    }
    const bitmap = this.bitmaps.get(step.name) as ModelBitmap;
    switch (step.verb) {
      case 'remove':
        this.bitmaps.delete(step.name);
        return;
      case 'enable':
        bitmap.enabled = true;
        return;
      case 'disable':
        bitmap.enabled = false;
        return;
      case 'clear':
        bitmap.bits.fill(0);
        return;
      case 'merge': {
        const { granularity, bits } = this.bitmaps.get(step.source) as ModelBitmap;
        for (const bit of setBits(bits)) {
          mark(bitmap, bit * granularity, Math.min(granularity, size - bit * granularity));
        }
      }
    }
  }

  /** The guest has changed this, or may have. */
  note(offset: number, length: number): void {
    for (const bitmap of this.bitmaps.values()) if (bitmap.enabled) mark(bitmap, offset, length);
  }

  /** The disk has another size now. */
  resize(size: number): void {
    for (const bitmap of this.bitmaps.values()) {
      const bits = new Uint8Array(Math.ceil(size / bitmap.granularity));
      bits.set(bitmap.bits.subarray(0, bits.length));
      bitmap.bits = bits;
    }
  }

  /** All of them, by name. */
  states(): BitmapState[] {
    return sorted(
      [...this.bitmaps].map(([name, { granularity, enabled, bits }]) => ({
        name,
        granularity,
        enabled,
        bits: [...setBits(bits)],
      })),
    );
  }
}

/** By name. */
export function sorted<T extends { readonly name: string }>(bitmaps: readonly T[]): T[] {
  return [...bitmaps].sort((one, other) => (one.name < other.name ? -1 : 1));
}

function mark({ granularity, bits }: ModelBitmap, offset: number, length: number): void {
  bits.fill(1, Math.floor(offset / granularity), Math.ceil((offset + length) / granularity));
}

function* setBits(bits: Uint8Array): Generator<number> {
  for (let bit = bits.indexOf(1); bit >= 0; bit = bits.indexOf(1, bit + 1)) yield bit;
}
