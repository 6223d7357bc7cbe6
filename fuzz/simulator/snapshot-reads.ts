/** An internal snapshot is read by an engine that has opened the image for that, between two lives. */

import { RequestFlag, RequestKind, Status } from '../../host/abi.js';
import { Engine } from './engine.js';
import { identify, SECTOR } from './pattern.js';
import { LONGEST_REQUEST } from './scenario.js';
import type { World } from './sent.js';
import { writeSnapshotId } from './snapshot-requests.js';
import { SimulationFailure } from './trace.js';

const MOST_READS = 8;

/** Reads some of one snapshot, if there is any, and compares it with the model. The disk makes no errors. */
export function readSnapshot(world: World): void {
  const { module, random, scenario, disk, model, trace } = world;
  const numbers = [...model.snapshots.keys()];
  if (numbers.length === 0) return;
  const number = random.pick(numbers);
  const engine = new Engine(module, scenario, disk, trace);
  trace.event('read snapshot', number);
  writeSnapshotId(engine, number);
  run(world, engine, RequestKind.Open, RequestFlag.Snapshot, 0, 0);
  const { virtualSize } = engine.core.info;
  for (let count = random.below(MOST_READS) + 1; count > 0; count--) {
    const offset = chooseOffset(world, number, virtualSize);
    const length = Math.min(virtualSize - offset, random.between(1, LONGEST_REQUEST / SECTOR) * SECTOR);
    const { memory, start } = engine.buffer(0, offset, length);
    run(world, engine, RequestKind.Read, 0, offset, length);
    const { cells } = model;
    const first = (offset / SECTOR) * cells.perSector;
    for (let cell = first; cell < first + (length / SECTOR) * cells.perSector; cell++) {
      const at = cells.offsetOf(cell);
      model.checkSnapshot(number, cell, identify(memory, start + at - offset, at, cells.offsetOf(cell + 1) - at));
    }
  }
}

/** Anywhere, or where the snapshot holds something. */
function chooseOffset({ random, model }: World, number: number, size: number): number {
  const anywhere = random.below(size / SECTOR) * SECTOR;
  const written = [...(model.snapshots.get(number) ?? new Map<number, number>()).keys()];
  if (written.length === 0 || random.chance(0.2)) return anywhere;
  const place = model.cells.offsetOf(random.pick(written));
  return place < size ? place - (place % SECTOR) : anywhere;
}

function run(world: World, engine: Engine, kind: RequestKind, flags: number, offset: number, length: number): void {
  const { disk } = world;
  engine.submit(0, kind, flags, offset, length);
  while (true) {
    const answer = engine.takeAnswers()[0];
    if (answer?.status === Status.Ok) return;
    if (answer !== undefined) throw new SimulationFailure(`a snapshot cannot be read: ${answer.message}`);
    if (disk.operationsInFlight === 0) throw new SimulationFailure('a reader of a snapshot waits for nothing');
    const completion = disk.advance();
    if (completion !== undefined) engine.complete(completion);
  }
}
