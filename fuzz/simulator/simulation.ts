/** A seed from beginning to end: an image is made, lives some lives, and is compared with the model all the while. */

import { CREATE_NAMES_OFFSET, CreateFlag, CreateOptionsView, RequestKind, Status } from '../../host/abi.js';
import { Engine } from './engine.js';
import { editImage } from './image-edit.js';
import { Life } from './life.js';
import { Model } from './model.js';
import type { CutResult } from './power-cut.js';
import { Random } from './random.js';
import { finishRepair, repair } from './repair.js';
import { CALM, drawLife, drawScenario, type Emphasis } from './scenario.js';
import type { World } from './sent.js';
import { type Sabotage, SimulatedDisk } from './simulated-disk.js';
import { readSnapshot } from './snapshot-reads.js';
import { examine, isDirty } from './survivors.js';
import { SimulationFailure, Trace } from './trace.js';

export interface SimulationOptions {
  readonly module: WebAssembly.Module;
  readonly sabotage?: Sabotage;
  /** Instead of what the seed would draw. */
  readonly emphasis?: Emphasis;
  /** Takes a line for every event. */
  readonly print?: (line: string) => void;
}

export interface SeedResult {
  readonly seed: number;
  /** Hash over all events: the same for the same seed, core and simulator. */
  readonly hash: string;
  /** What was wrong; undefined when nothing was. */
  readonly failure: string | undefined;
}

const BACKING_NAME = 'base';
/** Clusters of the longest file that is repaired here: it is walked many times. */
const LONGEST_REPAIRED = 20000;

/** Runs one seed. */
export function simulate(seed: number, options: SimulationOptions): SeedResult {
  const trace = new Trace(options.print);
  let failure: string | undefined;
  try {
    runLives(seed, options, trace);
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error;
    failure = error.message;
    trace.note(() => `FAILURE ${error.message}`);
  }
  return { seed, hash: trace.hash, failure };
}

function runLives(seed: number, { module, sabotage, emphasis }: SimulationOptions, trace: Trace): void {
  const random = new Random(seed);
  const scenario = drawScenario(random, emphasis);
  const { regular, deviceLength } = scenario;
  trace.note(() => JSON.stringify(scenario));
  const disk = new SimulatedDisk(random, regular, regular ? 0 : deviceLength, CALM, sabotage);
  const model = new Model(scenario.cells, scenario.backingLength);
  const world: World = {
    module,
    random,
    scenario,
    disk,
    model,
    trace,
    size: scenario.virtualSize,
    backingFile: scenario.backingLength > 0 ? BACKING_NAME : '',
  };
  create(world);

  for (let life = 0; life < scenario.lives; life++) {
    if (isDirty(disk.currentState())) {
      if (!mayRepair(world)) return;
      finishRepair(world);
    }
    if (scenario.focus === 'growth' || random.chance(0.5)) edit(world);
    if (mayRepair(world) && random.chance(0.3)) repair(world);
    if (random.chance(0.3)) readSnapshot(world);
    const plan = drawLife(random, scenario, disk.length, emphasis);
    trace.event('life', life, disk.length);
    trace.note(() => JSON.stringify(plan));
    disk.restart(disk.currentState(), plan.temper);
    disk.restart(new Life(world, plan).run(), CALM);
  }
}

function mayRepair({ scenario, disk }: World): boolean {
  return disk.length < LONGEST_REPAIRED * 2 ** scenario.clusterBits;
}

/** Somebody else has the image between two lives. */
function edit({ random, scenario, disk, model, trace }: World): void {
  const outcome = examine(disk.currentState(), model, true);
  const file = editImage(random, disk.currentState(), scenario, model, outcome);
  model.flagsUncertain = false;
  examine(file, model, false);
  disk.restart(file, CALM);
  trace.event('edit', file.length);
}

/** Makes the image. A power cut in the middle of that leaves no image, or a whole one. */
function create(world: World): void {
  const { module, scenario, disk, trace, random, model } = world;
  const engine = new Engine(module, scenario, disk, trace);
  const options = new CreateOptionsView(engine.core.memory, engine.core.layout.page);
  options.virtualSize = scenario.virtualSize;
  options.version = scenario.version;
  options.clusterBits = scenario.clusterBits;
  options.refcountOrder = scenario.refcountOrder;
  options.flags =
    (scenario.lazyRefcounts ? CreateFlag.LazyRefcounts : 0) |
    (scenario.extended ? CreateFlag.ExtendedL2 : 0) |
    (scenario.dataFile === 'none' ? 0 : CreateFlag.DataFile) |
    (scenario.dataFile === 'raw' ? CreateFlag.DataFileRaw : 0);
  if (scenario.dataFile !== 'none') {
    const name = new TextEncoder().encode('data');
    engine.core.bytes(engine.core.layout.page + CREATE_NAMES_OFFSET, name.length).set(name);
    options.dataFileLength = name.length;
  }
  engine.submit(0, RequestKind.Create, 0, 0, 0);
  while (true) {
    const answer = engine.takeAnswers()[0];
    if (answer !== undefined) {
      if (answer.status !== Status.Ok) throw new SimulationFailure(`create failed: ${answer.message}`);
      break;
    }
    if (disk.operationsInFlight === 0) throw new SimulationFailure('create waits for nothing');
    const completion = disk.advance();
    if (completion !== undefined) engine.complete(completion);
    if (!random.chance(0.02)) continue;
    const cut = disk.imagineCut(random);
    const magic = new Uint8Array(4);
    cut.bytes.read(0, magic);
    if (magic[0] === 0x51 && magic[1] === 0x46) examine(cut, model, false);
  }
  const made = disk.imagineCut(random);
  if (scenario.backingLength > 0) nameBacking(made);
  disk.restart(made, CALM);
}

/** Somebody puts the image in front of another one: its name goes to the end of the header's sector. */
function nameBacking({ bytes }: CutResult): void {
  const NAME_OFFSET = 504;
  const fields = new DataView(new ArrayBuffer(12));
  fields.setBigUint64(0, BigInt(NAME_OFFSET));
  fields.setUint32(8, BACKING_NAME.length);
  bytes.write(8, new Uint8Array(fields.buffer));
  bytes.write(NAME_OFFSET, new TextEncoder().encode(BACKING_NAME));
}
