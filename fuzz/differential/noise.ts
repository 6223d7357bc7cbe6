/** Bytes that no codec makes smaller: the same ones everywhere. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Random } from '../simulator/random.js';
import { NOISE } from './plan.js';

/** As much as the longest disk. */
const LENGTH = 32 << 20;
const BYTES = makeNoise();

/** What a write of this value puts everywhere: fills `target`. */
export function fillWith(value: number, target: Uint8Array): void {
  if (value === NOISE) target.set(BYTES.subarray(0, target.length));
  else target.fill(value);
}

/** Where `writeNoise` puts them, for images in the same folder. */
export function noisePath(imagePath: string): string {
  return join(imagePath, '../noise');
}

/** Puts the first `length` bytes where QEMU finds them. */
export function writeNoise(folder: string, length: number): void {
  writeFileSync(join(folder, 'noise'), BYTES.subarray(0, length));
}

function makeNoise(): Uint8Array {
  const random = new Random(1);
  const part = new Uint8Array((1 << 20) + 7).map(() => random.next());
  const bytes = new Uint8Array(LENGTH);
  for (let offset = 0; offset < LENGTH; offset += part.length) {
    bytes.set(part.subarray(0, LENGTH - offset), offset);
  }
  return bytes;
}
