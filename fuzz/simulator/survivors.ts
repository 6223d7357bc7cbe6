/** Compares a file that nobody has open with what its structures must be and what its guest may find. */

import type { Change } from './bitmap-ledger.js';
import { type CheckOutcome, checkImage } from './image-check.js';
import { ImageReader } from './image-reader.js';
import type { Model } from './model.js';
import { identify, makePatternMemory, SECTOR } from './pattern.js';
import type { CutResult } from './power-cut.js';

const memory = makePatternMemory(65536);

/**
 * Throws at the first thing that is wrong. With `decide`, what lies there is the truth from now on; without `counts`
 * refcounts and flags may be anything.
 */
export function examine(file: CutResult, model: Model, decide: boolean, counts = true): CheckOutcome {
  const reader = new ImageReader(file);
  const outcome = checkImage(reader, counts);
  const mapped = new Set<number>();
  const changes: Change[] = [];
  const judge = (cell: number, found: number) => {
    model.checkSurvivor(cell, found);
    const submittedAt = model.bitmaps.submissionOf(found);
    if (submittedAt !== undefined) changes.push({ offset: model.cells.offsetOf(cell), length: 1, submittedAt });
    if (decide) model.decide(cell, found);
  };
  for (const { guestOffset, hostOffset } of outcome.clusters) {
    mapped.add(guestOffset / reader.clusterSize);
    // Behind the end of the disk lies what a change of its size has not finished.
    const length = Math.min(reader.clusterSize, Math.max(0, reader.header.virtualSize - guestOffset));
    file.bytes.read(hostOffset, memory.bytes.subarray(0, length));
    const { cells } = model;
    const firstCell = (guestOffset / SECTOR) * cells.perSector;
    const endCell = firstCell + (length / SECTOR) * cells.perSector;
    for (let cell = firstCell, at = 0; cell < endCell; cell++) {
      const end = cells.offsetOf(cell + 1) - guestOffset;
      judge(cell, identify(memory, at, guestOffset + at, end - at));
      at = end;
    }
  }
  for (const cell of model.touched()) {
    const offset = model.cells.offsetOf(cell);
    if (!mapped.has(Math.floor(offset / reader.clusterSize))) judge(cell, 0);
  }
  model.bitmaps.judge(outcome.bitmaps, changes);
  if (decide) model.bitmaps.decide(outcome.bitmaps);
  return outcome;
}
