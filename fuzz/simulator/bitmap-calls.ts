/** What the guest's administrator asks about bitmaps. */

import { BitmapCallView, BitmapFlag, BitmapPage, BitmapRangeView, RequestKind } from '../../host/abi.js';
import type { BitmapCall, BitmapVerb } from './bitmap-ledger.js';
import type { Engine } from './engine.js';
import type { Random } from './random.js';

export type { BitmapCall } from './bitmap-ledger.js';

const KINDS: Readonly<Record<BitmapVerb, RequestKind>> = {
  add: RequestKind.BitmapAdd,
  remove: RequestKind.BitmapRemove,
  enable: RequestKind.BitmapEnable,
  disable: RequestKind.BitmapDisable,
  clear: RequestKind.BitmapClear,
  merge: RequestKind.BitmapMerge,
  set: RequestKind.BitmapSet,
};
/** Few, so that they meet; one makes the directory long. */
const NAMES = ['a', 'b', 'c', 'long'.padEnd(700, '-')];
/** Bits of the largest bitmap: more would only take longer. */
const MOST_BITS = 32768;
/** Bytes that are set at once. */
const LONGEST_RANGE = 1 << 22;

/** Draws a call, which may well make no sense. */
export function drawBitmapCall(random: Random, size: number): BitmapCall {
  const smallest = Math.max(9, Math.ceil(Math.log2(size / MOST_BITS)));
  return {
    verb: random.pick<BitmapVerb>(['add', 'add', 'add', 'remove', 'enable', 'disable', 'clear', 'merge', 'set']),
    name: random.pick(NAMES),
    source: random.pick(NAMES),
    size,
    range: drawRange(random, size),
    granularity: 2 ** random.between(smallest, smallest + 4),
  };
}

function drawRange(random: Random, size: number): { offset: number; length: number } {
  const offset = random.below(size);
  return { offset, length: random.between(1, Math.min(size - offset, LONGEST_RANGE)) };
}

/** Puts the call into the page and sends it. */
export function sendBitmapCall(engine: Engine, slot: number, call: BitmapCall): void {
  const { verb, name, source, granularity, range } = call;
  const { core } = engine;
  const { page } = core.layout;
  const put = (place: number, text: string): number => {
    const bytes = new TextEncoder().encode(text);
    core.bytes(page + place, bytes.length).set(bytes);
    return bytes.length;
  };
  const view = new BitmapCallView(core.memory, page + BitmapPage.Call);
  view.nameLength = put(BitmapPage.Name, name);
  view.sourceLength = put(BitmapPage.Source, source);
  view.granularityBits = Math.log2(granularity);
  view.flags = BitmapFlag.Auto;
  view.rangeCount = 1;
  const record = new BitmapRangeView(core.memory, page + BitmapPage.Answer);
  record.guestOffset = range.offset;
  record.length = range.length;
  engine.submit(slot, KINDS[verb], 0, 0, 0);
}
