/** This engine, through the library, in this process. */

import type { Image } from '../../host/image.js';
import type { MapExtent } from '../../host/map-extent.js';
import { openImage } from '../../host/node/index.js';
import type { Random } from '../simulator/random.js';
import { CAPABILITIES } from './capabilities.js';
import type { Step } from './plan.js';
import { type MapEntry, performByQemu } from './qemu.js';

/** Carries the steps out, in this order or all at once; overlapping requests keep their order then too. */
export async function performByCorral(
  path: string,
  steps: readonly Step[],
  atOnce: boolean,
  random: Random,
): Promise<void> {
  const open = () => openImage(path, { write: true, requestCapacity: random.between(1, 8), cacheSize: 0 });
  let image = await open();
  let calls: Promise<void>[] = [];
  try {
    for (const step of steps) {
      if (step.kind === 'reopen' || isLeftToQemu(step)) {
        await Promise.all(calls);
        calls = [];
        await image.close();
        if (step.kind !== 'reopen') await performByQemu(path, [step]);
        image = await open();
        continue;
      }
      // The size of the disk may change, and names are looked up before the request is made.
      const alone = isControl(step);
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

function isControl({ kind }: Step): boolean {
  return kind === 'snapshot' || kind === 'apply' || kind === 'delete' || kind === 'resize';
}

function isLeftToQemu({ kind }: Step): boolean {
  if (kind === 'snapshot' || kind === 'apply' || kind === 'delete') return !CAPABILITIES.snapshots;
  if (kind === 'resize') return !CAPABILITIES.resize;
  return kind === 'compressed';
}

/** The whole disk, or a snapshot of it, in pieces of any size, some at once. */
export async function readByCorral(path: string, random: Random, snapshot?: string): Promise<Uint8Array> {
  const selected = snapshot === undefined ? {} : { snapshot: { name: snapshot } };
  await using image = await openImage(path, { requestCapacity: 4, cacheSize: 0, ...selected });
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
export async function mapByCorral(path: string): Promise<MapEntry[]> {
  await using image = await openImage(path);
  const entries: MapEntry[] = [];
  for await (const extent of image.map()) {
    const entry = entryOf(extent);
    const last = entries.at(-1);
    if (last !== undefined && continues(last, entry)) entries[entries.length - 1] = joined(last, entry);
    else entries.push(entry);
  }
  return entries;
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
      return image.write(step.offset, new Uint8Array(step.length).fill(step.value));
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
    default:
      throw new Error(`no ${step.kind} here yet`);
  }
}

function entryOf({ offset, length, kind, hostOffset }: MapExtent): MapEntry {
  const data = kind === 'data' || kind === 'compressed';
  const place = kind === 'compressed' || hostOffset === undefined ? {} : { offset: hostOffset };
  return {
    start: offset,
    length,
    depth: 0,
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
