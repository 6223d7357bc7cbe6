/** This engine, through the library, in this process. */

import { type ChainExtent, mapChain } from '../../host/chain-map.js';
import type { Image } from '../../host/image.js';
import { NodeFile, type NodeOpenOptions, openImage, pathGate } from '../../host/node/index.js';
import type { Random } from '../simulator/random.js';
import { type BitmapState, sorted } from './bitmap-model.js';
import { fillWith } from './noise.js';
import { type BitmapStep, dataPath, type Step } from './plan.js';
import type { MapEntry } from './qemu.js';

/** How an image is opened: with the files that it names. */
interface Opening extends NodeOpenOptions {
  /** The plan has a data file. */
  readonly hasData: boolean;
}

/** Carries the steps out, in this order or all at once; overlapping requests keep their order then too. */
export async function performByCorral(
  path: string,
  { atOnce, hasData }: { atOnce: boolean; hasData: boolean },
  steps: readonly Step[],
  random: Random,
): Promise<void> {
  const opened = () => open(path, { hasData, write: true, requestCapacity: random.between(1, 8), cacheSize: 0 });
  let image = await opened();
  let calls: Promise<void>[] = [];
  try {
    for (const step of steps) {
      if (step.kind === 'reopen') {
        await Promise.all(calls);
        calls = [];
        await image.close();
        image = await opened();
        continue;
      }
      // The size of the disk may change, and names are looked up before the request is made.
      const alone = !('offset' in step) && step.kind !== 'flush';
      if (alone) await Promise.all(calls);
      const call = perform(image, step);
      calls.push(call);
      if (alone || !atOnce) await call;
    }
    await Promise.all(calls);
  } finally {
    await Promise.allSettled(calls);
    await image.close();
  }
}

async function open(path: string, { hasData, ...options }: Opening): Promise<Image> {
  const dataFile = hasData ? await NodeFile.open(dataPath(path), { write: options.write }) : undefined;
  try {
    return await openImage(path, { gate: pathGate(), dataFile, ...options });
  } catch (error) {
    await dataFile?.close();
    throw error;
  }
}

/** The whole disk, or a snapshot of it, in pieces of any size, some at once. */
export async function readByCorral(
  path: string,
  hasData: boolean,
  random: Random,
  snapshot?: string,
): Promise<Uint8Array> {
  const selected = snapshot === undefined ? {} : { snapshot: { name: snapshot } };
  await using image = await open(path, { hasData, requestCapacity: 4, cacheSize: 0, ...selected });
  const target = new Uint8Array(image.size);
  const calls: Promise<void>[] = [];
  for (let offset = 0; offset < target.length; ) {
    const length = Math.min(target.length - offset, random.between(1, 2 ** random.between(9, 22)));
    calls.push(image.read(offset, target.subarray(offset, offset + length)));
    offset += length;
  }
  await Promise.all(calls);
  return target;
}

/** As `qemu-img map --output json` would print it. */
export async function mapByCorral(path: string, hasData: boolean): Promise<MapEntry[]> {
  await using image = await open(path, { hasData });
  const entries: MapEntry[] = [];
  for await (const extent of mapChain(image, { offset: 0, length: image.size })) {
    const entry = entryOf(extent);
    const last = entries.at(-1);
    if (last !== undefined && continues(last, entry)) entries[entries.length - 1] = joined(last, entry);
    else entries.push(entry);
  }
  return entries;
}

/** The bitmaps, by name. */
export async function bitmapsByCorral(path: string, hasData: boolean): Promise<BitmapState[]> {
  await using image = await open(path, { hasData });
  const states: BitmapState[] = [];
  for (const { name, granularity, enabled } of await image.bitmaps.list()) {
    const bits: number[] = [];
    for await (const { offset, length } of image.bitmaps.ranges(name)) {
      for (let at = offset; at < offset + length; at += granularity) bits.push(at / granularity);
    }
    states.push({ name, granularity, enabled, bits });
  }
  return sorted(states);
}

/** Throws unless there are neither errors nor leaks. */
export async function checkByCorral(path: string): Promise<void> {
  await using image = await openImage(path, { checkSize: 1 << 20, tablesOnly: true });
  const { corruptions, leaks, checkErrors, findings } = await image.check();
  if (corruptions + leaks + checkErrors === 0) return;
  const texts = findings.map(({ hostOffset, found, expected }) => `at ${hostOffset}: ${found}, not ${expected}`);
  throw new Error(`${corruptions} corruptions, ${leaks} leaks, ${checkErrors} errors: ${texts.slice(0, 5).join('; ')}`);
}

function perform(image: Image, step: Step): Promise<void> {
  switch (step.kind) {
    case 'write':
      return image.write(step.offset, bytesOf(step));
    case 'compressed':
      // As on the other side, where it must be free.
      return both(image.discard(step.offset, step.length), image.writeCompressed(step.offset, bytesOf(step)));
    case 'zero':
    case 'unmap':
      return image.writeZeroes(step.offset, step.length, { unmap: step.kind === 'unmap' });
    case 'discard':
      return image.discard(step.offset, step.length);
    case 'flush':
      return image.flush();
    case 'snapshot':
      return image.snapshots.create({ name: step.name });
    case 'apply':
      return image.snapshots.apply({ name: step.name });
    case 'delete':
      return image.snapshots.delete({ name: step.name });
    case 'resize':
      return image.resize(step.size, { shrink: true });
    case 'amend':
      return image.amend(step.change);
    case 'bitmap':
      return performOnBitmap(image, step);
    default:
      throw new Error(`no ${step.kind} here`);
  }
}

async function both(...calls: Promise<void>[]): Promise<void> {
  await Promise.all(calls);
}

function bytesOf({ length, value }: { length: number; value: number }): Uint8Array {
  const bytes = new Uint8Array(length);
  fillWith(value, bytes);
  return bytes;
}

function performOnBitmap({ bitmaps }: Image, step: BitmapStep): Promise<void> {
  if (step.verb === 'add') return bitmaps.add(step.name, { granularity: step.granularity });
  return step.verb === 'merge' ? bitmaps.merge(step.name, step.source) : bitmaps[step.verb](step.name);
}

function entryOf({ offset, length, kind, depth, hostOffset }: ChainExtent): MapEntry {
  const data = kind === 'data' || kind === 'compressed';
  const place = kind === 'compressed' || hostOffset === undefined ? {} : { offset: hostOffset };
  return {
    start: offset,
    length,
    depth,
    present: kind !== 'unallocated',
    zero: !data,
    data,
    compressed: kind === 'compressed',
    ...place,
  };
}

function continues(first: MapEntry, second: MapEntry): boolean {
  const alike =
    first.depth === second.depth &&
    first.present === second.present &&
    first.zero === second.zero &&
    first.data === second.data &&
    first.compressed === second.compressed;
  if (!alike) return false;
  return first.offset === undefined ? second.offset === undefined : first.offset + first.length === second.offset;
}

function joined(first: MapEntry, second: MapEntry): MapEntry {
  return { ...first, length: first.length + second.length };
}
