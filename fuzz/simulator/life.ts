/** One life of an image: the engine opens it, the guest works, and then it is closed, killed or loses power. */

import {
  AMEND_NAMES_OFFSET,
  AmendOptionsView,
  CheckResultView,
  PreallocateOptionsView,
  RequestFlag,
  RequestKind,
  ResizeFlag,
  ResizeOptionsView,
  Status,
} from '../../host/abi.js';
import { type BitmapCall, drawBitmapCall, sendBitmapCall } from './bitmap-calls.js';
import type { Change } from './bitmap-ledger.js';
import { type Answer, Engine } from './engine.js';
import type { CheckOutcome } from './image-check.js';
import { ImageReader } from './image-reader.js';
import type { GuestWrite, Model, SnapshotChange } from './model.js';
import { fillPattern, identify, SECTOR } from './pattern.js';
import type { CutResult } from './power-cut.js';
import type { Random } from './random.js';
import type { LifePlan, Scenario } from './scenario.js';
import type { SimulatedDisk } from './simulated-disk.js';
import { completeSnapshotRequest, isHarmless, sendSnapshotRequest } from './snapshot-requests.js';
import { examine } from './survivors.js';
import { SimulationFailure, type Trace } from './trace.js';
import { drawAmend, drawPreallocation, drawRequest, drawSize, type GuestRequest, type Verb } from './workload.js';

/** What all lives of a seed share. */
export interface World {
  readonly module: WebAssembly.Module;
  readonly random: Random;
  readonly scenario: Scenario;
  readonly disk: SimulatedDisk;
  readonly model: Model;
  readonly trace: Trace;
  /** Bytes of the virtual disk now. */
  size: number;
  /** Name of the backing file now; empty when there is none. */
  backingFile: string;
}

interface Sent {
  readonly request: GuestRequest;
  readonly write: GuestWrite | undefined;
  readonly snapshot?: SnapshotChange;
  readonly submittedAt: number;
  /** An earlier failure was already over, or had already spoilt everything, when it was sent. */
  readonly mustSucceed: boolean;
  readonly mustFail: boolean;
  /** A change of the disk's size: what it becomes. */
  readonly size?: number;
  /** A change of the backing file's name: what it becomes. */
  readonly backingFile?: string;
  /** What is noted in the bitmaps. */
  readonly change?: Change;
  /** A request about a bitmap, and the status with which it must fail, if it must. */
  readonly call?: BitmapCall;
  readonly refusal?: Status;
  cancelled: boolean;
}

const CALLS: Readonly<Record<Verb, { kind: RequestKind; flags: number }>> = {
  read: { kind: RequestKind.Read, flags: 0 },
  write: { kind: RequestKind.Write, flags: 0 },
  'durable write': { kind: RequestKind.Write, flags: RequestFlag.Durable },
  'compressed write': { kind: RequestKind.Write, flags: RequestFlag.Compressed },
  'write zeroes': { kind: RequestKind.WriteZeroes, flags: 0 },
  unmap: { kind: RequestKind.WriteZeroes, flags: RequestFlag.Unmap },
  discard: { kind: RequestKind.Discard, flags: 0 },
  flush: { kind: RequestKind.Flush, flags: 0 },
  resize: { kind: RequestKind.Resize, flags: RequestFlag.Unmap },
  amend: { kind: RequestKind.Amend, flags: 0 },
  snapshot: { kind: RequestKind.SnapshotCreate, flags: 0 },
  bitmap: { kind: RequestKind.BitmapAdd, flags: 0 },
  preallocate: { kind: RequestKind.Preallocate, flags: 0 },
};
const CONTROLS: readonly Verb[] = ['resize', 'amend', 'snapshot', 'bitmap', 'preallocate'];
const ZEROING: readonly Verb[] = ['write zeroes', 'unmap', 'discard'];
/** Bytes that no answer can contain by accident. */
const UNREAD = 0xc3;
/** Bytes of a file whose refcounts of 64 bits, and the table of their blocks, are not too large for the format. */
const LONGEST_COUNTED = 2 ** 32;
const encoder = new TextEncoder();
/** Events of the disk between two looks at the guest. */
const MOST_EVENTS = 6;
/** Steps without an answer after which nothing will ever come. */
const PATIENCE = 200000;

export class Life {
  private readonly engine: Engine;
  private readonly sent = new Map<number, Sent>();
  private issued = 0;
  private cancels = 0;
  private healed: boolean;
  /** The image is being changed: the guest waits until it knows its size. */
  private changing = false;
  /** A request about a bitmap, or for clusters ahead of writes, is under way: it has the page. */
  private calling = false;
  /** Sizes that the disk may have, as changes failed. */
  private readonly doubtfulSizes: number[] = [];
  /** Backing files that the image may name. */
  private readonly doubtfulNames: string[] = [];
  /** A change of snapshots failed: nobody knows how far it came, and what lies on the disk has to tell. */
  private doomed = false;

  constructor(
    private readonly world: World,
    private readonly plan: LifePlan,
  ) {
    this.engine = new Engine(world.module, world.scenario, world.disk, world.trace);
    this.healed = plan.troubleUntil === 0;
  }

  /** Lives; returns what the disk holds afterwards. */
  run(): CutResult {
    const { disk, model, random } = this.world;
    const before = examine(disk.currentState(), model, false);
    if (!this.open()) return this.survive(disk.currentState());
    if (this.plan.check && !model.flagsUncertain) this.check(before);
    while (this.issued < this.plan.requests && !this.doomed) this.step();
    while (this.plan.ending === 'close' && this.sent.size > 0 && !this.doomed) this.progress();
    if (this.doomed) return this.die();
    if (this.plan.ending === 'close') {
      this.close(before);
      return this.survive(disk.imagineCut(random));
    }
    for (let step = 0; step < this.plan.steps && this.sent.size > 0 && !this.doomed; step++) this.step();
    return this.die();
  }

  private die(): CutResult {
    const { disk, model, trace, random } = this.world;
    trace.event(this.plan.ending, this.sent.size);
    if (this.plan.ending === 'kill') return this.survive(disk.currentState());
    // Several things may have been lost; the last one is what the next life finds.
    for (let other = 0; other < 3; other++) examine(disk.imagineCut(random), model, false);
    return this.survive(disk.imagineCut(random));
  }

  /** What the disk holds from now on is what the guest must find. */
  private survive(file: CutResult): CutResult {
    const { size } = examine(file, this.world.model, true);
    const possible = [this.world.size, ...this.doubtfulSizes, ...[...this.sent.values()].map((sent) => sent.size)];
    if (!possible.includes(size)) {
      throw new SimulationFailure(`the disk has ${size} bytes, not ${this.world.size}`);
    }
    this.world.size = size;
    const { backingFile } = new ImageReader(file);
    const names = [...this.doubtfulNames, ...[...this.sent.values()].map((sent) => sent.backingFile)];
    if (backingFile !== this.world.backingFile && !names.includes(backingFile)) {
      throw new SimulationFailure(`the backing file is ${backingFile}, not ${this.world.backingFile}`);
    }
    this.world.backingFile = backingFile;
    return file;
  }

  /** False when an injected error has prevented it. */
  private open(): boolean {
    const answer = this.perform(RequestKind.Open, RequestFlag.Writable);
    if (answer.status === Status.Ok) return true;
    if (this.world.disk.faults === 0) throw new SimulationFailure(`open failed: ${answer.message}`);
    return false;
  }

  private close(before: CheckOutcome): void {
    const { disk, model, random } = this.world;
    const quiet = disk.faults === 0 && this.cancels === 0;
    while (this.sent.size > 0) this.progress();
    const submittedAt = model.clock++;
    const quietUntilNow = quiet && disk.faults === 0;
    if (this.plan.check && quietUntilNow && !model.flagsUncertain) this.check(before);
    const answer = this.perform(RequestKind.Close, 0);
    if (answer.status === Status.Ok) {
      model.completeFlush(submittedAt);
      model.bitmaps.close();
    } else if (disk.faults === 0) throw new SimulationFailure(`close failed: ${answer.message}`);
    if (!quietUntilNow || disk.faults !== 0) return;
    const leaks = examine(disk.imagineCut(random), model, false).countLeaks();
    const leaksBefore = before.countLeaks();
    // Refcounts of another width forget what was counted behind the end of the file.
    if (this.plan.amends > 0 && leaks < leaksBefore) return;
    if (leaks !== leaksBefore) throw new SimulationFailure(`${leaks} leaks after a close, ${leaksBefore} before it`);
  }

  /** Asks the engine what it thinks of the image. */
  private check(before: CheckOutcome): void {
    const { core } = this.engine;
    const { disk, scenario } = this.world;
    const answer = this.perform(RequestKind.Check, 0);
    if (answer.status !== Status.Ok) {
      if (disk.faults === 0) throw new SimulationFailure(`check failed: ${answer.message}`);
      return;
    }
    const result = new CheckResultView(core.memory, core.layout.page);
    const { corruptions, checkErrors } = result;
    // What was leaked before, and nothing else; clusters beyond the end of the file are not its business.
    const leaks = before.countLeaks(Math.ceil(disk.length / 2 ** scenario.clusterBits));
    // Refcounts of another width forget what was counted behind the end of the file, which has grown since.
    const forgotten = this.plan.amends > 0 && result.leaks < leaks;
    if (corruptions === 0 && checkErrors === 0 && (result.leaks === leaks || forgotten)) return;
    throw new SimulationFailure(
      `the engine's check finds ${corruptions} corruptions, ${checkErrors} errors, ${result.leaks} leaks of ${leaks}`,
    );
  }

  /** A control request on its own. */
  private perform(kind: RequestKind, flags: number): Answer {
    const { engine } = this;
    engine.submit(0, kind, flags, 0, 0);
    for (let step = 0; step < PATIENCE; step++) {
      const answer = engine.takeAnswers()[0];
      if (answer !== undefined) return answer;
      this.advanceDisk();
    }
    throw new SimulationFailure('a control request never ends');
  }

  private step(): void {
    const { random, disk, model } = this.world;
    if (!this.healed && this.issued >= this.plan.troubleUntil) this.heal();
    const slot = this.engine.freeSlot;
    const asks = slot >= 0 && !this.changing && this.issued < this.plan.requests && random.chance(this.plan.eagerness);
    // Who has the page keeps it until the answer.
    const alone = asks && model.pending === undefined && !this.calling;
    if (alone && this.plan.snapshots > 0 && random.chance(this.plan.snapshots)) this.sendSnapshot(slot);
    else if (alone && this.plan.resizes > 0 && random.chance(this.plan.resizes)) this.sendResize(slot);
    else if (alone && this.plan.amends > 0 && random.chance(this.plan.amends)) this.sendAmend(slot);
    else if (alone && this.plan.preallocations > 0 && random.chance(this.plan.preallocations))
      this.sendPreallocate(slot);
    else if (alone && this.mayCall && random.chance(this.plan.bitmapCalls)) this.sendCall(slot);
    else if (asks) this.send(slot);
    else if (this.sent.size > 0) this.progress();
    if (this.plan.cancels > 0 && this.sent.size > 0 && random.chance(this.plan.cancels)) this.cancel();
    if (random.chance(this.plan.imaginedCuts)) examine(disk.imagineCut(random), model, false);
  }

  /** Waits until everything is answered, then lets nothing fail any more. */
  private heal(): void {
    while (this.sent.size > 0 && !this.doomed) this.progress();
    if (this.doomed) return;
    for (let step = 0; this.world.disk.operationsInFlight > 0 && step < PATIENCE; step++) this.advanceDisk();
    this.world.disk.heal();
    this.healed = true;
    this.world.trace.event('heal');
  }

  private progress(): void {
    for (let count = this.world.random.below(MOST_EVENTS) + 1; count > 0 && !this.doomed; count--) {
      if (this.world.disk.operationsInFlight === 0 && this.sent.size > 0) {
        throw new SimulationFailure(`${this.sent.size} requests wait, and nothing is in flight`);
      }
      this.advanceDisk();
      this.settleAnswers();
    }
  }

  private advanceDisk(): void {
    const completion = this.world.disk.advance();
    if (completion !== undefined) this.engine.complete(completion);
  }

  private sendSnapshot(slot: number): void {
    const { trace, disk, model } = this.world;
    this.issued++;
    const snapshot = sendSnapshotRequest(this.world, this.engine, slot);
    // Until it is known which size the disk has, the guest asks nothing.
    this.changing = snapshot.size !== undefined && snapshot.size !== this.world.size;
    trace.note(() => `slot ${slot}: ${snapshot.verb} snapshot ${snapshot.number}`);
    this.sent.set(slot, {
      request: { verb: 'snapshot', firstCell: 0, endCell: 0 },
      write: undefined,
      snapshot,
      submittedAt: snapshot.submittedAt,
      mustSucceed: this.healed && !disk.fatal && disk.regular && !(snapshot.verb === 'apply' && model.bitmaps.any),
      mustFail: disk.flushFailed && !(snapshot.verb === 'apply' && model.bitmaps.any),
      ...(snapshot.size === undefined ? {} : { size: snapshot.size }),
      cancelled: false,
    });
    this.settleAnswers();
  }

  private send(slot: number): void {
    const { random, scenario, model, disk, trace } = this.world;
    const request = drawRequest(random, scenario, this.world.size, this.plan.habits);
    this.issued++;
    const { verb, firstCell, endCell } = request;
    const { cells } = model;
    const offset = verb === 'flush' ? 0 : cells.offsetOf(firstCell);
    const length = verb === 'flush' ? 0 : cells.offsetOf(endCell) - offset;
    const submittedAt = model.clock++;
    const write = this.enterModel(request);
    const change = verb === 'read' || verb === 'flush' ? undefined : { offset, length, submittedAt };
    if (change !== undefined) model.bitmaps.submit(change, write?.id);
    this.sent.set(slot, {
      request,
      write,
      change,
      submittedAt,
      mustSucceed: this.healed && (verb === 'read' || (!disk.fatal && disk.regular)),
      mustFail: verb === 'flush' && disk.flushFailed,
      cancelled: false,
    });
    const { memory, start } = this.engine.buffer(slot, offset, length);
    if (write === undefined || write.value === 0) memory.bytes.fill(UNREAD, start, start + length);
    else fillPattern(memory, start, offset, length, write.id);
    trace.note(() => `slot ${slot}: ${verb} ${write?.id ?? ''} at ${offset}, ${length} bytes`);
    const { kind, flags } = CALLS[verb];
    this.engine.submit(slot, kind, flags, offset, length);
    this.settleAnswers();
  }

  /** The disk becomes longer or shorter. */
  private sendResize(slot: number): void {
    const { random, scenario, model, disk, trace, size: before } = this.world;
    const size = drawSize(random, scenario, before);
    if (!model.bitmaps.clear) {
      this.send(slot);
      return;
    }
    const spoilt = model.bitmaps.spoilt === 'certainly';
    model.bitmaps.beginResize(size);
    this.issued++;
    this.changing = true;
    const cell = (size / SECTOR) * model.cells.perSector;
    model.extend((before / SECTOR) * model.cells.perSector, cell);
    this.sent.set(slot, {
      request: { verb: 'resize', firstCell: cell, endCell: cell },
      write: size < before ? model.submitCut(cell) : undefined,
      submittedAt: model.clock++,
      mustSucceed: this.healed && !disk.fatal && disk.regular && !spoilt,
      mustFail: false,
      size,
      cancelled: false,
    });
    const options = new ResizeOptionsView(this.engine.core.memory, this.engine.core.layout.page);
    options.virtualSize = size;
    options.flags = ResizeFlag.Shrink | (scenario.backingLength > 0 ? ResizeFlag.ZeroNew : 0);
    trace.note(() => `slot ${slot}: resize from ${before} to ${size}`);
    const { kind, flags } = CALLS.resize;
    this.engine.submit(slot, kind, flags, 0, 0);
    this.settleAnswers();
  }

  /** A property of the image changes; what the disk holds does not. */
  private sendAmend(slot: number): void {
    const { random, scenario, model, disk, trace } = this.world;
    const { info } = this.engine.core;
    const { kind, value, backingFile } = drawAmend(random, scenario, info.version, info.refcountOrder);
    this.issued++;
    this.changing = true;
    this.sent.set(slot, {
      request: { verb: 'amend', firstCell: 0, endCell: 0 },
      write: undefined,
      submittedAt: model.clock++,
      mustSucceed: this.healed && !disk.fatal && disk.regular,
      mustFail: false,
      ...(backingFile === undefined ? {} : { backingFile }),
      cancelled: false,
    });
    const { core } = this.engine;
    const options = new AmendOptionsView(core.memory, core.layout.page);
    options.kind = kind;
    options.value = value;
    const names = [backingFile ?? '', backingFile === undefined ? '' : 'raw'].map((name) => encoder.encode(name));
    [options.backingFileLength, options.backingFormatLength] = names.map((name) => name.length) as [number, number];
    let at = core.layout.page + AMEND_NAMES_OFFSET;
    for (const name of names) {
      core.bytes(at, name.length).set(name);
      at += name.length;
    }
    trace.note(() => `slot ${slot}: amend ${kind} to ${value}`);
    this.engine.submit(slot, CALLS.amend.kind, CALLS.amend.flags, 0, 0);
    this.settleAnswers();
  }

  /** Clusters ahead of any write; what the disk holds stays as it is. */
  private sendPreallocate(slot: number): void {
    const { random, scenario, model, disk, trace, size } = this.world;
    const { mode, offset, length } = drawPreallocation(random, scenario, size);
    this.issued++;
    this.calling = true;
    this.sent.set(slot, {
      request: { verb: 'preallocate', firstCell: 0, endCell: 0 },
      write: undefined,
      submittedAt: model.clock++,
      mustSucceed: this.healed && !disk.fatal && disk.regular,
      mustFail: false,
      cancelled: false,
    });
    const options = new PreallocateOptionsView(this.engine.core.memory, this.engine.core.layout.page);
    options.mode = mode;
    trace.note(() => `slot ${slot}: preallocate ${mode} at ${offset}, ${length} bytes`);
    this.engine.submit(slot, CALLS.preallocate.kind, CALLS.preallocate.flags, offset, length);
    this.settleAnswers();
  }

  private get mayCall(): boolean {
    return this.plan.bitmapCalls > 0 && this.world.model.bitmaps.clear;
  }

  /** A bitmap is made, changed or removed. */
  private sendCall(slot: number): void {
    const { random, model, disk, trace, size } = this.world;
    const call = drawBitmapCall(random, size);
    this.issued++;
    this.calling = true;
    const submittedAt = model.clock++;
    const refusal = model.bitmaps.refusal(call);
    this.sent.set(slot, {
      request: { verb: 'bitmap', firstCell: 0, endCell: 0 },
      write: undefined,
      submittedAt,
      mustSucceed: this.healed && !disk.fatal && disk.regular && refusal === undefined,
      mustFail: false,
      call,
      refusal: refusal === undefined ? undefined : Status[refusal],
      cancelled: false,
    });
    model.bitmaps.begin(call, submittedAt);
    trace.note(() => `slot ${slot}: ${call.verb} bitmap ${call.name.slice(0, 8)} ${call.source} ${call.granularity}`);
    sendBitmapCall(this.engine, slot, call);
    this.settleAnswers();
  }

  private settleCall(sent: Sent, call: BitmapCall, status: Status, message: string): void {
    const { bitmaps } = this.world.model;
    this.calling = false;
    const refused = status === Status.NotFound || status === Status.Exists || status === Status.Invalid;
    // The first cluster may have no room for the extension.
    const small = status === Status.TooLarge && call.verb === 'add' && this.world.scenario.clusterBits === 9;
    if (refused || small) {
      if (!small && sent.refusal !== status && !bitmaps.isDoubtful(call)) {
        throw new SimulationFailure(`${call.verb} of a bitmap failed: ${message}`);
      }
      bitmaps.end(false);
      return;
    }
    if (status !== Status.Ok) {
      this.judgeFailure(sent, status, message);
      bitmaps.end(status === Status.Cancelled ? false : undefined);
      return;
    }
    if (sent.refusal !== undefined) throw new SimulationFailure(`${call.verb} of a bitmap succeeded`);
    bitmaps.end(true);
  }

  /** What the request will change, if it is one that changes anything. */
  private enterModel({ verb, firstCell, endCell }: GuestRequest): GuestWrite | undefined {
    if (verb === 'read' || verb === 'flush') return undefined;
    if (verb !== 'discard') return this.world.model.submitWrite(firstCell, endCell, ZEROING.includes(verb));
    // Whole clusters only, but for the end of the disk.
    const { scenario, model } = this.world;
    if (this.engine.core.info.version === 2 && scenario.backingLength > 0) return undefined;
    const { perSector } = model.cells;
    const cluster = (2 ** scenario.clusterBits / SECTOR) * perSector;
    const diskEnd = (this.world.size / SECTOR) * perSector;
    const first = Math.ceil(firstCell / cluster) * cluster;
    const end = endCell === diskEnd ? diskEnd : Math.floor(endCell / cluster) * cluster;
    return first < end ? model.submitWrite(first, end, true) : undefined;
  }

  private cancel(): void {
    const { random } = this.world;
    const slots = [...this.sent.keys()];
    // What changes the image as a whole has many stages, and is rare.
    const controls = slots.filter((slot) => CONTROLS.includes(this.sent.get(slot)?.request.verb as Verb));
    const slot = random.pick(controls.length > 0 && random.chance(0.5) ? controls : slots);
    (this.sent.get(slot) as Sent).cancelled = true;
    this.cancels++;
    this.engine.cancel(slot);
  }

  private settleAnswers(): void {
    for (const answer of this.engine.takeAnswers()) if (!this.doomed) this.settle(answer);
  }

  private settle({ slot, status, message }: Answer): void {
    const sent = this.sent.get(slot) as Sent;
    this.sent.delete(slot);
    const succeeded = status === Status.Ok;
    if (sent.call !== undefined) {
      this.settleCall(sent, sent.call, status, message);
      return;
    }
    if (sent.snapshot !== undefined) {
      this.settleSnapshot(sent, sent.snapshot, { slot, status, message });
      return;
    }
    if (succeeded && sent.change !== undefined) this.world.model.bitmaps.answer(sent.change);
    const refused = this.isRefused(sent, status) || (sent.request.verb === 'resize' && this.isSpoilt(status));
    if (!succeeded && !refused) this.judgeFailure(sent, status, message);
    if (succeeded && sent.mustFail) throw new SimulationFailure('a flush succeeded after another one had failed');
    const { model } = this.world;
    const { verb } = sent.request;
    // What is left to do for bitmaps when the disk has its size may fail.
    const resized = verb === 'resize' && (succeeded || this.engine.core.info.virtualSize === sent.size);
    if (verb === 'amend') this.changing = false;
    if (sent.backingFile !== undefined && !refused) {
      if (succeeded) this.world.backingFile = sent.backingFile;
      else if (status !== Status.Cancelled) this.doubtfulNames.push(sent.backingFile);
    }
    if (verb === 'preallocate') this.calling = false;
    if (sent.size !== undefined) {
      this.changing = false;
      const harmless = refused || status === Status.Cancelled;
      if (resized) this.world.size = sent.size;
      // Who knows what became of the header's sector?
      else if (!harmless) this.doubtfulSizes.push(sent.size);
      model.bitmaps.endResize(succeeded ? true : harmless ? false : undefined);
    }
    if (sent.write !== undefined)
      model.completeWrite(sent.write, succeeded || resized, verb === 'durable write' || verb === 'resize');
    else if (verb === 'flush' && succeeded) model.completeFlush(sent.submittedAt);
    else if (verb === 'read' && succeeded) this.checkRead(slot, sent);
  }

  /** A bitmap that cannot be used keeps the disk from another size. */
  private isSpoilt(status: Status): boolean {
    const { spoilt } = this.world.model.bitmaps;
    if (status === Status.Ok && spoilt === 'certainly') {
      throw new SimulationFailure('a disk with an inconsistent bitmap got another size');
    }
    return status === Status.Invalid && spoilt !== undefined;
  }

  private settleSnapshot(sent: Sent, snapshot: SnapshotChange, answer: Answer): void {
    const { model, disk } = this.world;
    if (answer.status === Status.Ok) {
      if (sent.mustFail) throw new SimulationFailure('a snapshot was changed after a flush had failed');
      if (snapshot.verb === 'apply' && model.bitmaps.certain) {
        throw new SimulationFailure('a snapshot was applied to a disk with bitmaps');
      }
      completeSnapshotRequest(snapshot, model, disk);
      this.world.size = snapshot.size ?? this.world.size;
      this.changing = false;
      return;
    }
    const noted = snapshot.verb === 'apply' && answer.status === Status.Unsupported && model.bitmaps.any;
    if (!noted && !isHarmless(answer, sent.cancelled, this.engine.core.info.refcountOrder)) {
      this.judgeFailure(sent, answer.status, answer.message);
      this.doomed = true;
      if (snapshot.size !== undefined) this.doubtfulSizes.push(snapshot.size);
      return;
    }
    this.changing = false;
    model.pending = undefined;
    model.flagsUncertain = true;
  }

  /**
   * Nothing has changed, as something is in the way: refcounts of fewer bits cannot count what is shared, the first
   * cluster has no room for a name, version 2 has no place for sizes of snapshots nor zeros over a backing file.
   */
  private isRefused({ request }: Sent, status: Status): boolean {
    const { scenario, model, disk } = this.world;
    const { info } = this.engine.core;
    const shares = model.snapshots.size > 0 || scenario.compressedWrites || scenario.compresses > 0;
    if (status === Status.Unsupported && request.verb === 'resize') return info.version === 2 && shares;
    if (request.verb !== 'amend') return false;
    if (status === Status.TooLarge) return shares || scenario.clusterBits === 9 || disk.length > LONGEST_COUNTED;
    return status === Status.Unsupported && (model.snapshots.size > 0 || scenario.backingLength > 0);
  }

  private judgeFailure(sent: Sent, status: Status, message: string): void {
    const { disk } = this.world;
    const { verb } = sent.request;
    if (sent.cancelled && status === Status.Cancelled) return;
    if (sent.mustSucceed)
      throw new SimulationFailure(`a ${verb} failed although nothing is wrong any more: ${message}`);
    const ioError = status === Status.InputOutput || status === Status.NoSpace;
    // A device can be full without the disk having said so: the engine knows where it ends.
    const full = status === Status.NoSpace && !disk.regular;
    const expected = full || (disk.faults > 0 && ioError) || (disk.fatal && status === Status.Broken);
    if (!expected) throw new SimulationFailure(`a ${verb} failed: ${message}`);
  }

  private checkRead(slot: number, { request, submittedAt }: Sent): void {
    const { model } = this.world;
    const offset = model.cells.offsetOf(request.firstCell);
    const length = model.cells.offsetOf(request.endCell) - offset;
    const { memory, start } = this.engine.buffer(slot, offset, length);
    for (let cell = request.firstCell, at = offset; cell < request.endCell; cell++) {
      const end = model.cells.offsetOf(cell + 1);
      model.checkRead(cell, identify(memory, start + at - offset, at, end - at), submittedAt);
      at = end;
    }
  }
}
