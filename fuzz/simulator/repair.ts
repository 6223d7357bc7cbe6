/**
 * A repair between two lives: refcounts and flags are damaged, and the engine puts them right. Power is cut and
 * operations fail in the middle; whatever is left then must hold the guest's data and be no worse than it was, and the
 * next repair must finish.
 */

import { CheckResultView, RequestFlag, RequestKind, Status } from '../../host/abi.js';
import { Engine } from './engine.js';
import { leakEverything } from './image-edit.js';
import { ImageReader } from './image-reader.js';
import type { CutResult } from './power-cut.js';
import type { Random } from './random.js';
import { setRefcount } from './refcount-edit.js';
import { CALM } from './scenario.js';
import type { World } from './sent.js';
import type { DiskTemper } from './simulated-disk.js';
import { lengthenLastSnapshot } from './snapshot-damage.js';
import { examine } from './survivors.js';
import { SimulationFailure } from './trace.js';

/** Whole slices of refcounts fit, whatever their width: new refcount structures need that. */
const CHECK_SIZE = 200000;
const MOST_ATTEMPTS = 4;
const PATIENCE = 200000;
const INCOMPATIBLE_OFFSET = 79;
const DIRTY = 1;
const REFCOUNT_TABLE_ENTRY_SIZE = 8;

/** Damages the image on the disk and repairs it. */
export function repair(world: World): void {
  const { random, disk, trace } = world;
  const file = damage(random, disk.currentState(), world);
  trace.event('damage', file.length);
  disk.restart(file, CALM);
  finishRepair(world);
}

/** Repairs the image on the disk: power is cut some times before it ends. */
export function finishRepair(world: World): void {
  const { random, disk, model } = world;
  for (let attempts = random.below(MOST_ATTEMPTS); attempts > 0; attempts--) {
    disk.restart(disk.currentState(), drawTemper(random));
    disk.restart(attemptRepair(world, random.pick([20, 100, 500, 3000])), CALM);
  }
  disk.restart(disk.currentState(), CALM);
  disk.restart(attemptRepair(world, PATIENCE), CALM);
  const leaks = examine(disk.currentState(), model, false).countLeaks(
    Math.ceil(disk.length / 2 ** world.scenario.clusterBits),
  );
  if (leaks !== 0) throw new SimulationFailure(`${leaks} leaks after a repair`);
  model.flagsUncertain = false;
}

/** Power may fail after `events` of the disk; returns what the disk holds then. */
function attemptRepair(world: World, events: number): CutResult {
  const { module, scenario, disk, trace, random, model } = world;
  trace.event('repair', events);
  const mustSucceed = events === PATIENCE;
  const before = new ImageReader(disk.currentState());
  const engine = new Engine(module, scenario, disk, trace, CHECK_SIZE);
  const calls: [RequestKind, number][] = [
    [RequestKind.Open, RequestFlag.Writable | RequestFlag.TablesOnly],
    [RequestKind.Check, RequestFlag.RepairAll],
    [RequestKind.Close, 0],
  ];
  let left = events;
  for (const [kind, flags] of calls) {
    engine.submit(0, kind, flags, 0, 0);
    while (true) {
      const answer = engine.takeAnswers()[0];
      if (answer !== undefined) {
        if (answer.status === Status.Ok) break;
        if (disk.faults === 0) throw new SimulationFailure(`repair failed: ${answer.message}`);
        return judge(world, before, disk.imagineCut(random));
      }
      if (left-- === 0) return judge(world, before, disk.imagineCut(random));
      const completion = disk.advance();
      if (completion !== undefined) engine.complete(completion);
      if (random.chance(0.01)) judge(world, before, disk.imagineCut(random));
    }
    if (kind === RequestKind.Check) judgeResult(engine, mustSucceed);
  }
  const file = disk.imagineCut(random);
  examine(file, model, false);
  return file;
}

/** A repair that says it is done has left nothing. */
function judgeResult({ core }: Engine, mustSucceed: boolean): void {
  const { corruptions, checkErrors, leaks } = new CheckResultView(core.memory, core.layout.page);
  if (corruptions + checkErrors + leaks === 0) return;
  const when = mustSucceed ? 'the last' : 'a';
  throw new SimulationFailure(
    `${when} repair leaves ${corruptions} corruptions, ${checkErrors} errors, ${leaks} leaks`,
  );
}

/** The guest's data is there, and nothing that was counted is not any more. */
function judge({ model }: World, before: ImageReader, file: CutResult): CutResult {
  const { used } = examine(file, model, false, false);
  const after = new ImageReader(file);
  // Who takes the warning back has put everything right.
  if (before.header.dirty && !after.header.dirty) examine(file, model, false);
  for (const cluster of used) {
    if (after.refcount(cluster) !== 0 || before.refcount(cluster) === 0) continue;
    throw new SimulationFailure(`a repair that was cut off has lost the refcount of cluster ${cluster}`);
  }
  return file;
}

/** Refcounts of clusters in use become zero, flags are lost, blocks are lost, everything leaks. */
function damage(random: Random, file: CutResult, { scenario, model }: World): CutResult {
  const outcome = examine(file, model, false);
  const { active, used } = outcome;
  const reader = new ImageReader(file);
  const rate = random.pick([0, 0.02, 0.3]);
  if (random.chance(0.3)) leakEverything(file, reader, outcome);
  for (const cluster of used) if (random.chance(rate)) setRefcount(file, reader, cluster, 0);
  for (const { entryOffset } of active.clusters) {
    // In a data file the flag says that there is a cluster at all.
    if (reader.header.dataFile || !random.chance(rate)) continue;
    const first = new Uint8Array(1);
    file.bytes.read(entryOffset, first);
    file.bytes.write(entryOffset, Uint8Array.of((first[0] as number) & 0x7f));
  }
  // New structures need room, which a device may not have.
  if (scenario.regular && random.chance(0.4)) loseBlocks(random, file, reader);
  // A copy of the table needs room too.
  if (scenario.regular && random.chance(0.5)) lengthenLastSnapshot(random, file);
  if (scenario.version === 3 && random.chance(0.5)) markDirty(file);
  return file;
}

function markDirty(file: CutResult): void {
  const features = new Uint8Array(1);
  file.bytes.read(INCOMPATIBLE_OFFSET, features);
  file.bytes.write(INCOMPATIBLE_OFFSET, Uint8Array.of((features[0] as number) | DIRTY));
}

/** Some entries of the refcount table name nothing any more, or what another one names. */
function loseBlocks(random: Random, file: CutResult, reader: ImageReader): void {
  const { refcountTableOffset } = reader.header;
  for (let index = 0; index < reader.refcountTableEntries; index++) {
    const { high, low } = reader.refcountTableEntry(index);
    if ((high === 0 && low === 0) || !random.chance(0.5)) continue;
    const entry = new Uint8Array(REFCOUNT_TABLE_ENTRY_SIZE);
    if (random.chance(0.3)) file.bytes.read(refcountTableOffset, entry);
    file.bytes.write(refcountTableOffset + index * REFCOUNT_TABLE_ENTRY_SIZE, entry);
  }
}

/** Slow or fast, and sometimes with errors. */
function drawTemper(random: Random): DiskTemper {
  const rate = random.pick([0, 0, 0.002, 0.02]);
  const times = [1, 2, 8, 40];
  return {
    ...CALM,
    readTime: random.pick(times),
    tableTime: random.pick(times),
    flushTime: random.pick(times),
    splits: random.pick([0, 0.1, 0.5]),
    readErrors: rate,
    writeErrors: rate,
    flushErrors: rate,
  };
}
