/** Random guest requests that Corral and QEMU carry out, and the bytes that the disk must hold afterwards. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { type NodeOpenOptions, openImage } from '../../host/node/index.js';
import { below } from '../random.js';

const SECTOR = 512;
const LONGEST = 150_000;

export interface Step {
  kind: 'write' | 'zero' | 'unmap' | 'discard' | 'flush';
  offset: number;
  length: number;
  value: number;
}

/** How discards show: they zero whole clusters, unless `keepsDiscarded` (version 2 over a backing file). */
export interface Disk {
  clusterSize: number;
  keepsDiscarded?: boolean;
}

/** Requests of a disk of `size` bytes: whole clusters, single sectors and what lies between, often in the same places. */
export function drawSteps(random: () => number, count: number, size: number, clusterSize: number): Step[] {
  const hotSpots = Array.from({ length: 4 }, () => below(random, size));
  return Array.from({ length: count }, () => {
    const kind = (['write', 'write', 'write', 'write', 'zero', 'unmap', 'discard', 'flush'] as const)[below(random, 8)];
    const unit = random() < 0.3 && clusterSize * 2 < size ? clusterSize : SECTOR;
    const near = (hotSpots[below(random, 4)] as number) + below(random, 4 * clusterSize) - 2 * clusterSize;
    const wanted = random() < 0.6 ? near : below(random, size);
    const offset = Math.floor(Math.min(Math.max(0, wanted), size - 1) / unit) * unit;
    const longest = random() < 0.5 ? 4 * SECTOR : LONGEST;
    const length = Math.min(size - offset, Math.ceil((1 + below(random, longest)) / unit) * unit);
    return { kind: kind as Step['kind'], offset, length, value: 1 + below(random, 255) };
  });
}

export function apply(model: Uint8Array, { kind, offset, length, value }: Step, disk: Disk): void {
  const { clusterSize } = disk;
  if (kind === 'write') model.fill(value, offset, offset + length);
  else if (kind === 'zero' || kind === 'unmap') model.fill(0, offset, offset + length);
  else if (kind === 'discard' && !disk.keepsDiscarded) {
    const end =
      offset + length === model.length ? model.length : Math.floor((offset + length) / clusterSize) * clusterSize;
    model.fill(0, Math.min(end, Math.ceil(offset / clusterSize) * clusterSize), end);
  }
}

/** All at once, so that they overlap, or one after the other. */
export async function runWithCorral(
  path: string,
  steps: readonly Step[],
  together: boolean,
  options: NodeOpenOptions = {},
): Promise<void> {
  await using image = await openImage(path, { write: true, requestCapacity: 16, cacheSize: 0, ...options });
  const calls: Promise<void>[] = [];
  for (const { kind, offset, length, value } of steps) {
    const call = {
      write: () => image.write(offset, new Uint8Array(length).fill(value)),
      zero: () => image.writeZeroes(offset, length),
      unmap: () => image.writeZeroes(offset, length, { unmap: true }),
      discard: () => image.discard(offset, length),
      flush: () => image.flush(),
    }[kind]();
    if (together) calls.push(call);
    else await call;
  }
  await Promise.all(calls);
  await image.close();
}

export function runWithQemu(path: string, steps: readonly Step[]): void {
  const commands = steps.map(({ kind, offset, length, value }) => {
    if (kind === 'write') return `write -P ${value} ${offset} ${length}`;
    if (kind === 'zero') return `write -z ${offset} ${length}`;
    if (kind === 'unmap') return `write -z -u ${offset} ${length}`;
    return kind === 'discard' ? `discard ${offset} ${length}` : 'flush';
  });
  execFileSync('qemu-io', ['-d', 'unmap', '-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path]);
}

export async function readWithCorral(path: string, options: NodeOpenOptions = {}): Promise<Uint8Array> {
  await using image = await openImage(path, options);
  const target = new Uint8Array(image.size);
  await image.read(0, target);
  return target;
}

/** The disk, or that of a snapshot. */
export function readWithQemu(path: string, snapshot?: string): Uint8Array {
  const raw = `${path}.raw`;
  const choice = snapshot === undefined ? [] : ['-l', snapshot];
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', ...choice, '-O', 'raw', path, raw]);
  return readFileSync(raw);
}

/** Exit status 0: neither errors nor leaks. */
export function checkWithQemu(path: string, context: string): void {
  try {
    execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', path], { stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: Buffer; stderr: Buffer };
    expect.fail(`qemu-img check (${context}): ${stdout}${stderr}`);
  }
}
