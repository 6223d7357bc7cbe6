/** Changes of the bitmaps of an image that is served, as they go from thread to thread and over the control socket. */
import { Bitmaps, type DirtyRange } from '../bitmaps.js';
import { CorralError } from '../errors.js';
import type { RingEngine } from './ring-engine.js';

/** What happens to one bitmap; names are text. */
export type BitmapChange =
  /** `granularity` in bytes, default as of `Bitmaps.add`. */
  | { action: 'add'; bitmap: string; granularity?: number; disabled?: boolean }
  | { action: 'remove' | 'clear' | 'enable' | 'disable'; bitmap: string }
  /** What is dirty in `source`, of the same image, becomes dirty. */
  | { action: 'merge'; bitmap: string; source: string }
  /** The ranges become dirty. */
  | { action: 'mark'; bitmap: string; ranges: readonly DirtyRange[] };

/** The bitmaps of an engine's image; its promises need no event loop, only that somebody awaits them. */
export function bitmapsOf(engine: RingEngine): Bitmaps {
  return new Bitmaps({
    runControl: async (request) => engine.run(request) as never,
    clusterSize: 2 ** engine.core.info.clusterBits,
    size: () => engine.core.info.virtualSize,
  });
}

/** Rejects as the verb of `Bitmaps` does. */
export async function changeBitmap(bitmaps: Bitmaps, change: BitmapChange): Promise<void> {
  const { bitmap } = change;
  switch (change.action) {
    case 'add':
      return bitmaps.add(bitmap, { granularity: change.granularity, disabled: change.disabled });
    case 'merge':
      return bitmaps.merge(bitmap, change.source);
    case 'mark':
      return bitmaps.mark(bitmap, change.ranges);
    default:
      return bitmaps[change.action](bitmap);
  }
}

/**
 * What somebody has sent, checked.
 *
 * @throws CorralError ERR_INVALID_ARGUMENT
 */
export function checkBitmapChange(sent: {
  readonly action: string;
  readonly bitmap: string;
  readonly source?: string;
  readonly granularity?: number;
  readonly disabled?: boolean;
  readonly ranges?: object;
}): BitmapChange {
  const { action, bitmap, source, granularity, disabled, ranges } = sent;
  switch (action) {
    case 'add':
      return { action, bitmap, granularity, disabled };
    case 'remove':
    case 'clear':
    case 'enable':
    case 'disable':
      return { action, bitmap };
    case 'merge':
      if (source === undefined) throw invalid("'source' is missing");
      return { action, bitmap, source };
    case 'mark':
      if (!Array.isArray(ranges) || !ranges.every(isRange)) throw invalid("'ranges' are no ranges");
      return { action, bitmap, ranges };
    default:
      throw invalid('The action is unknown');
  }
}

function isRange(value: unknown): value is DirtyRange {
  const { offset, length } = (value ?? {}) as Partial<DirtyRange>;
  return [offset, length].every((number) => Number.isSafeInteger(number) && (number as number) >= 0);
}

function invalid(reason: string): CorralError {
  return new CorralError('ERR_INVALID_ARGUMENT', { reason });
}
