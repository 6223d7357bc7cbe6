/** What the host of the guest asks about snapshots while the guest works. */

import { RequestKind, SnapshotOptionsView, Status } from '../../host/abi.js';
import type { Answer, Engine } from './engine.js';
import { ImageReader } from './image-reader.js';
import type { Model, SnapshotChange } from './model.js';
import type { Random } from './random.js';
import type { SimulatedDisk } from './simulated-disk.js';
import { captureSnapshot } from './survivors.js';

/** So few that their ids have one digit, and that a table of the smallest cluster holds them. */
const MOST_SNAPSHOTS = 3;
const OPTIONS_SIZE = 32;
const KINDS = {
  create: RequestKind.SnapshotCreate,
  delete: RequestKind.SnapshotDelete,
  apply: RequestKind.SnapshotApply,
} as const;

interface World {
  readonly random: Random;
  readonly model: Model;
  readonly disk: SimulatedDisk;
}

/** Sends one into `slot`; the model knows that it may happen from now on. There is no other one at the time. */
export function sendSnapshotRequest({ random, model, disk }: World, engine: Engine, slot: number): SnapshotChange {
  const numbers = [...model.snapshots.keys()];
  const creates = numbers.length === 0 || (numbers.length < MOST_SNAPSHOTS && random.chance(0.5));
  const verb = creates ? 'create' : random.pick(['delete', 'apply'] as const);
  let free = 1;
  while (numbers.includes(free)) free++;
  const number = creates ? free : random.pick(numbers);
  const { roots } = new ImageReader(disk.currentState()).snapshots;
  const size = roots.find((root) => root.number === number)?.size;
  const change = { verb, number, submittedAt: model.clock++, ...(verb === 'apply' ? { size } : {}) } as SnapshotChange;
  model.pending = change;
  writeSnapshotId(engine, number);
  engine.submit(slot, KINDS[verb], 0, 0, 0);
  return change;
}

/** Names a snapshot in the page. */
export function writeSnapshotId({ core }: Engine, number: number): void {
  const options = new SnapshotOptionsView(core.memory, core.layout.page);
  options.idLength = 1;
  options.nameLength = 0;
  options.vmClock = 0;
  options.icount = 0;
  core.bytes(core.layout.page + OPTIONS_SIZE, 1).set([0x30 + number]);
}

/** It is done: the model follows. */
export function completeSnapshotRequest(change: SnapshotChange, model: Model, disk: SimulatedDisk): void {
  const { verb, number } = change;
  if (verb === 'create') model.snapshots.set(number, captureSnapshot(disk.currentState(), model));
  else if (verb === 'delete') model.snapshots.delete(number);
  else model.applySnapshot(change);
  model.pending = undefined;
  // Everything that was changed is durable, flags too.
  model.flagsUncertain = false;
}

/** It says that nothing has changed, and why it may say so. */
export function isHarmless({ status }: Answer, cancelled: boolean, refcountOrder: number): boolean {
  if (cancelled && status === Status.Cancelled) return true;
  // Sixteen references of one cluster are the most that this workload can make out of a compressed one.
  return status === Status.TooLarge && refcountOrder <= 3;
}
