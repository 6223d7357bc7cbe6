/** What is left after a power cut: for every sector that no flush has covered, the old bytes or newer ones. */

import { DATA_FILE_START } from './data-file.js';
import type { Random } from './random.js';
import type { SparseBytes } from './sparse-bytes.js';

const SECTOR = 512;

/** A piece of a write that is visible, or may be when the power fails. */
export interface LoggedWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** Shared by the pieces of one operation: when it was answered, and whether a failed flush has dropped it. */
  readonly write: { completedAt: number; unreliable: boolean };
}

/** A file as the next start finds it. */
export interface CutResult {
  readonly bytes: SparseBytes;
  readonly length: number;
}

export interface CutSource {
  readonly durable: SparseBytes;
  readonly durableLength: number;
  /** Length that was visible. */
  readonly length: number;
  /** Writes that no flush has covered, in the order in which they became visible. */
  readonly log: readonly LoggedWrite[];
  /** A regular file: its length may be lost too. */
  readonly regular: boolean;
}

/** Which pieces of which writes survive. */
type Keeps = (entry: number, offset: number) => boolean;

/** Draws one of the states that the disk may be in when the power comes back. */
export function chooseSurvivors(random: Random, source: CutSource): CutResult {
  const bytes = source.durable.clone();
  const keeps = chooseRule(random, source);
  let keptEnd = source.durableLength;
  source.log.forEach((logged, entry) => {
    const end = applySectors(bytes, logged, (offset) => keeps(entry, offset));
    if (end < DATA_FILE_START) keptEnd = Math.max(keptEnd, end);
  });
  if (!source.regular) return { bytes, length: source.length };
  const length = chooseLength(random, source, keptEnd);
  bytes.truncate(length, DATA_FILE_START);
  return { bytes, length };
}

/** Applies the surviving sectors of one write; returns where the last one ends. */
function applySectors(target: SparseBytes, { offset, bytes }: LoggedWrite, keeps: (offset: number) => boolean): number {
  const end = offset + bytes.length;
  let keptEnd = 0;
  let runStart = -1;
  let position = offset;
  while (position < end) {
    const next = Math.min(end, (Math.floor(position / SECTOR) + 1) * SECTOR);
    if (keeps(position)) {
      if (runStart < 0) runStart = position;
      keptEnd = next;
    } else if (runStart >= 0) {
      target.write(runStart, bytes.subarray(runStart - offset, position - offset));
      runStart = -1;
    }
    position = next;
  }
  if (runStart >= 0) target.write(runStart, bytes.subarray(runStart - offset));
  return keptEnd;
}

/** Different disks lose different things: everything, a random half, the newest, the oldest, one region. */
function chooseRule(random: Random, { log, length }: CutSource): Keeps {
  const count = log.length;
  const limit = random.below(count + 1);
  const middle = count === 0 ? 0 : (log[random.below(count)] as LoggedWrite).offset;
  const probability = random.pick([0.05, 0.3, 0.5, 0.7, 0.95]);
  const whole = log.map(() => random.chance(probability));
  switch (random.below(9)) {
    case 0:
      return () => false;
    case 1:
      return () => true;
    case 2:
      // In the order in which they were written; the last one is torn.
      return (entry) => entry < limit || (entry === limit && random.chance(0.5));
    case 3:
      // The newest first.
      return (entry) => entry >= limit;
    case 4:
      return (_, offset) => offset < middle;
    case 5:
      return (_, offset) => offset >= middle && offset < length;
    case 6:
      return (entry) => whole[entry] as boolean;
    case 7:
      // Few are torn, most are whole.
      return (entry) => (random.chance(0.05) ? random.chance(0.5) : (whole[entry] as boolean));
    default:
      return () => random.chance(probability);
  }
}

/** Growth may be lost, kept in part, or kept without its data. */
function chooseLength(random: Random, { durableLength, length }: CutSource, keptEnd: number): number {
  if (length <= durableLength) return length;
  switch (random.below(4)) {
    case 0:
      return Math.max(durableLength, Math.min(length, keptEnd));
    case 1:
      return length;
    case 2:
      return durableLength;
    default: {
      // No file system cuts a sector in two.
      const sectors = Math.ceil((length - durableLength) / SECTOR);
      return Math.min(length, durableLength + random.below(sectors + 1) * SECTOR);
    }
  }
}
