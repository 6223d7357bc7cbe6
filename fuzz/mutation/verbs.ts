/** What is done to a mutant that is open for writing, drawn one call at a time. */

import type { Image } from '../../host/image.js';
import type { Random } from '../simulator/random.js';
import { OTHER_BACKING_NAME } from './files.js';

/** A part of the disk, in bytes. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

export interface Call {
  readonly run: () => Promise<unknown>;
  /** What the guest may find changed afterwards; undefined: anything. */
  readonly changes: readonly Range[] | undefined;
}

const NOTHING: readonly Range[] = [];
const WIDTHS = [1, 2, 4, 8, 16, 32, 64];

/** A guest request inside the first `span` bytes, or a control verb. */
export function drawCall(random: Random, image: Image, span: number): Call {
  if (random.chance(0.75)) return drawGuestCall(random, image, span);
  switch (random.below(4)) {
    case 0:
      return drawSnapshotCall(random, image);
    case 1:
      return { run: () => changeBitmaps(random, image), changes: NOTHING };
    case 2:
      return drawResize(random, image);
    default:
      return drawAmend(random, image);
  }
}

function drawGuestCall(random: Random, image: Image, span: number): Call {
  const { clusterSize } = image.info;
  const length = Math.min(image.size, random.between(1, 3 * Math.min(clusterSize, 65536)));
  const offset = random.below(Math.max(1, span - length));
  const changes = [{ offset, length }];
  switch (random.below(7)) {
    case 0: {
      const unmap = random.chance(0.5);
      return { run: () => image.writeZeroes(offset, length, { unmap }), changes };
    }
    case 1:
      return { run: () => image.discard(offset, length), changes };
    case 2:
      return { run: () => image.flush(), changes: NOTHING };
    case 3: {
      const start = offset - (offset % clusterSize);
      const whole = Math.min(image.size - start, clusterSize * random.between(1, 2));
      const source = new Uint8Array(whole).fill(0x77);
      return { run: () => image.writeCompressed(start, source), changes: [{ offset: start, length: whole }] };
    }
    default: {
      const durable = random.chance(0.2);
      return { run: () => image.write(offset, new Uint8Array(length).fill(0x5a), { durable }), changes };
    }
  }
}

function drawSnapshotCall(random: Random, image: Image): Call {
  const { snapshots } = image;
  const verb = random.pick(['create', 'delete', 'apply'] as const);
  const number = random.below(3);
  const run = async () => {
    if (verb === 'create') return snapshots.create({ name: 'mutant' });
    const all = await snapshots.list();
    const chosen = all[number % Math.max(1, all.length)];
    if (chosen === undefined) return;
    const selection = { id: chosen.idBytes, name: chosen.nameBytes };
    await (verb === 'apply' ? snapshots.apply(selection) : snapshots.delete(selection));
  };
  return { run, changes: verb === 'apply' ? undefined : NOTHING };
}

/** One verb with the bitmaps that are there, after they were listed. */
async function changeBitmaps(random: Random, { bitmaps }: Image): Promise<void> {
  const verb = random.pick(['add', 'remove', 'enable', 'disable', 'clear', 'merge', 'ranges'] as const);
  const granularity = 2 ** random.between(9, 17);
  const [first, second] = [random.below(3), random.below(3)];
  if (verb === 'add') return bitmaps.add('mutant', { granularity });
  const all = await bitmaps.list();
  const name = all[first % Math.max(1, all.length)]?.nameBytes;
  const source = all[second % Math.max(1, all.length)]?.nameBytes;
  if (name === undefined || source === undefined || name.length === 0) return;
  if (verb === 'merge') return source.length === 0 ? undefined : bitmaps.merge(name, source);
  if (verb !== 'ranges') return bitmaps[verb](name);
  let count = 0;
  for await (const _ of bitmaps.ranges(name)) if (++count > 100) return;
}

/** By a little, by much, or to what no table could cover. */
function drawResize(random: Random, image: Image): Call {
  const unit = 512;
  const size = random.chance(0.6)
    ? Math.max(0, image.size + unit * random.between(-200, 200))
    : unit * random.below(2 ** random.between(1, 40));
  const newSize = size - (size % unit);
  const shrink = random.chance(0.9);
  const offset = Math.min(image.size, newSize);
  return { run: () => image.resize(newSize, { shrink }), changes: [{ offset, length: Number.POSITIVE_INFINITY }] };
}

function drawAmend(random: Random, image: Image): Call {
  switch (random.below(5)) {
    case 0:
      return { run: () => image.amend({ compat: random.pick(['0.10', '1.1'] as const) }), changes: NOTHING };
    case 1:
    case 2:
      return { run: () => image.amend({ refcountBits: random.pick(WIDTHS) }), changes: NOTHING };
    case 3:
      return { run: () => image.amend({ lazyRefcounts: random.chance(0.5) }), changes: NOTHING };
    default: {
      const backingFile = random.chance(0.5) ? null : OTHER_BACKING_NAME;
      const named = backingFile === null ? {} : { backingFormat: 'raw' };
      // Only for who has none: another file would be another disk.
      if (image.info.backingFile !== undefined)
        return { run: () => image.amend({ dataFileRaw: false }), changes: NOTHING };
      return { run: () => image.amend({ backingFile, ...named }), changes: undefined };
    }
  }
}
