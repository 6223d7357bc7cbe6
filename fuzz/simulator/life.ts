/** One life of an image: the engine opens it, the guest works, and then it is closed, killed or loses power. */

import { CheckResultView, RequestFlag, RequestKind, Status } from '../../host/abi.js';
import type { BitmapCall } from './bitmap-calls.js';
import {
  type Administrator,
  type ControlRequest,
  isRefused,
  sendAmend,
  sendCall,
  sendPreallocate,
  sendResize,
  sendSnapshot,
} from './control-requests.js';
import { type Answer, Engine } from './engine.js';
import { enterModel } from './guest-effects.js';
import type { CheckOutcome } from './image-check.js';
import { ImageReader } from './image-reader.js';
import type { SnapshotChange } from './model.js';
import { fillPattern, identify } from './pattern.js';
import type { CutResult } from './power-cut.js';
import { judgeAnswer, sendQuestion } from './questions.js';
import type { LifePlan } from './scenario.js';
import { CALLS, CONTROLS, type Sent, type World } from './sent.js';
import { completeSnapshotRequest, isHarmless } from './snapshot-requests.js';
import { examine } from './survivors.js';
import { SimulationFailure } from './trace.js';
import { drawRequest } from './workload.js';

/** Bytes that no answer can contain by accident. */
const UNREAD = 0xc3;
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
  /** A request about a bitmap, for clusters ahead of writes, or for an answer is under way: it has the page. */
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
    const control = alone ? this.chooseControl() : undefined;
    if (control !== undefined) this.ask(slot, control);
    else if (asks) this.send(slot);
    else if (this.sent.size > 0) this.progress();
    if (this.plan.cancels > 0 && this.sent.size > 0 && random.chance(this.plan.cancels)) this.cancel();
    if (random.chance(this.plan.imaginedCuts)) examine(disk.imagineCut(random), model, false);
  }

  /** What the administrator asks now, if anything. */
  private chooseControl(): ControlRequest | undefined {
    const { snapshots, resizes, amends, preallocations, bitmapCalls, questions } = this.plan;
    const { random, model } = this.world;
    const { clear } = model.bitmaps;
    const choices: readonly [number, ControlRequest][] = [
      [snapshots, sendSnapshot],
      [clear ? resizes : 0, sendResize],
      [amends, sendAmend],
      [preallocations, sendPreallocate],
      [clear ? bitmapCalls : 0, sendCall],
      [questions, sendQuestion],
    ];
    return choices.find(([rate]) => rate > 0 && random.chance(rate))?.[1];
  }

  private ask(slot: number, send: ControlRequest): void {
    this.issued++;
    const sent = send(this.administrator, slot);
    this.sent.set(slot, sent);
    const { verb } = sent.request;
    // Until it is known which size the disk has, the guest asks nothing.
    if (verb === 'resize' || verb === 'amend') this.changing = true;
    if (verb === 'snapshot') this.changing = sent.size !== undefined && sent.size !== this.world.size;
    if (verb === 'bitmap' || verb === 'preallocate' || verb === 'question') this.calling = true;
    this.settleAnswers();
  }

  private get administrator(): Administrator {
    return { world: this.world, engine: this.engine, healed: this.healed };
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

  private send(slot: number): void {
    const { random, scenario, model, disk, trace } = this.world;
    const request = drawRequest(random, scenario, this.world.size, this.plan.habits);
    this.issued++;
    const { verb, firstCell, endCell } = request;
    const { cells } = model;
    const offset = verb === 'flush' ? 0 : cells.offsetOf(firstCell);
    const length = verb === 'flush' ? 0 : cells.offsetOf(endCell) - offset;
    const submittedAt = model.clock++;
    const write = enterModel(this.world, this.engine.core.info.version, request);
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

  private cancel(): void {
    const { random } = this.world;
    const slots = [...this.sent.keys()];
    // What changes the image as a whole has many stages, and is rare.
    const controls = slots.filter((slot) => CONTROLS.includes((this.sent.get(slot) as Sent).request.verb));
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
    if (sent.question !== undefined) {
      this.calling = false;
      if (succeeded) judgeAnswer(sent.question, slot, this.world, this.engine);
      else this.judgeFailure(sent, status, message);
      return;
    }
    if (sent.snapshot !== undefined) {
      this.settleSnapshot(sent, sent.snapshot, { slot, status, message });
      return;
    }
    if (succeeded && sent.change !== undefined) this.world.model.bitmaps.answer(sent.change);
    const refused = isRefused(this.administrator, sent, status);
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
