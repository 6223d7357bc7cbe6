/**
 * One core instance on one ring: the loop of a thread that serves an image.
 *
 * A step is one turn of the ring and one pass through the core: completions go in, and what the core asks for is written
 * down for the next turn. Nothing in a step allocates. The core's imports only take notes, so the core is never entered
 * twice. Guest bytes are never seen here: the ring moves them between its buffers and the file.
 */
import { fstatSync } from 'node:fs';
import { BufferSpace, RequestFlag, RequestKind, type RequestView, SCRATCH_COUNT, Status } from '../abi.js';
import { CoreInstance } from '../core-instance.js';
import type { EngineRequest } from '../engine.js';
import { CorralError } from '../errors.js';
import { type ImageFacts, readFacts } from '../image-facts.js';
import type { CoreMemory, Ring, Waker } from './addon.js';
import { type Addon, EventType, OutgoingType, QUAD, TurnMode } from './addon.js';
import type { CoreSharing, SharedParts } from './core-sharing.js';
import { errnoOf, systemErrorOf } from './errno.js';
import { jobOf } from './helper-job.js';
import { malformedError } from './malformed-error.js';
import type { RequestMeter } from './request-meter.js';
import type { HelperOptions, RingEngineHandlers, RingEngineOptions } from './ring-engine-options.js';
import { RingHelper } from './ring-helper.js';

/** Entries that the core can ask for between two turns before they are handed over early. */
const OUTGOING_CAPACITY = 1024;

/**
 * Events taken from the ring at once. Few, so that what the first ones lead to is under way while the others are looked
 * at: a device that idles costs more than a few system calls.
 */
const EVENT_CAPACITY = 32;

/** Mailboxes of shared cores have entries of OutgoingType, and this: the control request has ended with Status b. */
const CONTROL_ENDED = 100;
/** The block device is a + b * 2^32 bytes long from now on. */
const DEVICE_SIZE = 101;

/** Of a request slot. */
enum SlotState {
  /** No request of the kernel is in it. */
  Free = 0,
  /** The core has it. */
  Served = 1,
  /** It waits for the guest's release. */
  Held = 2,
}

/** Jobs of the helper at once, unless the host says something else. */
const DEFAULT_JOBS = 8;

export class RingEngine {
  /** Another one after `changeCache`. */
  core: CoreInstance;
  readonly ring: Ring;
  /** Guest requests of the host's own that ended since the last step: pairs of slot and Status. */
  readonly finished: Int32Array;
  finishedCount = 0;
  /** A trap of the core, after which every request is answered with an error. */
  trap: unknown;

  private readonly handlers: RingEngineHandlers;
  private readonly turn: Ring['turn'];
  private readonly outgoing = new Int32Array((1 + OUTGOING_CAPACITY) * QUAD);
  private readonly events = new Int32Array((1 + EVENT_CAPACITY) * QUAD);
  /** Where the next entry goes. */
  private outgoingEnd = QUAD;
  private readonly controlSlot: number;
  /** A SlotState for each slot; with a shared core, those of all threads. */
  private readonly slotStates: Uint8Array;
  /** The errno with which each operation failed last: the cause of what the core reports. */
  private readonly errnos: Int32Array;
  /** Why the helper failed with an operation, where that was its last failure. */
  private readonly causes = new Map<number, CorralError>();
  private readonly hasBacking: boolean;
  private readonly passHere = (): void => this.pass();
  private scratch: SharedArrayBuffer | undefined;
  private readonly helper: RingHelper | undefined;
  private readonly meter: RequestMeter | undefined;
  /** Whether somebody holds the guest, where the core is not shared. */
  private guestHeld = false;
  /** This thread's slots of requests that wait for the guest's release. */
  private heldSlots: number[] = [];
  private controlDone: ((status: Status, error?: CorralError) => void) | undefined;
  private readonly addon: Addon;
  private readonly sharing: CoreSharing | undefined;
  /** Of the other threads of a shared core, by number. */
  private readonly wakers: Waker[] = [];
  /** All of the core's memory. */
  private words: Uint32Array;
  /** RequestFlag bits with which the image is open. */
  private openFlags = 0;
  private cacheSize: number;

  /** @throws CorralError when the core cannot be had in this size; SystemError when the kernel refuses the ring */
  constructor(
    private readonly options: RingEngineOptions,
    handlers: RingEngineHandlers = {},
  ) {
    const { addon, guestCapacity } = options;
    const { sharing } = options;
    this.handlers = handlers;
    this.meter = options.meter;
    this.addon = addon;
    this.sharing = sharing;
    const slots = guestCapacity * (sharing?.parts.threads ?? 1);
    this.controlSlot = slots;
    this.slotStates = new Uint8Array(sharing?.parts.slots ?? new ArrayBuffer(slots + 1));
    this.finished = new Int32Array(2 * (slots + 1));
    this.cacheSize = options.cacheSize;
    this.core = this.makeCore(options.cacheSize);
    const { operationCapacity } = this.core.layout;
    this.errnos = new Int32Array(sharing?.parts.errnos ?? sharedErrnos(sharing, operationCapacity));
    const memory = memoryOf(this.core, sharing !== undefined);
    this.ring = new addon.Ring({ ...memory, outgoing: this.outgoing, events: this.events });
    this.turn = this.ring.turn;
    this.words = new Uint32Array(this.core.memory);
    if (sharing !== undefined) sharing.wakeDescriptor = this.ring.wakeDescriptor;
    if (sharing?.parts.scratch !== undefined) this.ring.setScratch(new Uint8Array(sharing.parts.scratch));
    const { writable, ignoresFlushes, dataFile } = options;
    const use = { writable, ignoresFlushes: ignoresFlushes ?? false };
    this.ring.setFile(options.descriptor, use);
    if (dataFile !== undefined) this.ring.setDataFile(dataFile.descriptor, use);
    this.helper = options.helper && this.makeHelper(options.helper, options);
    this.hasBacking = options.helper?.backing !== undefined;
    // Others may have something for this thread before its first pass.
    this.locked(() => {});
  }

  private makeCore(cacheSize: number): CoreInstance {
    const { core, sharing, fileLength, zeroBeyondEnd, helper, dataFile, treatment } = this.options;
    const configuration = {
      requestCapacity: this.controlSlot + 1,
      cacheSize,
      checkSize: 0,
      fileLength,
      zeroBeyondEnd,
      scratch: true,
      decompresses: helper !== undefined,
      backing: helper?.backing !== undefined,
      dataFileLength: dataFile?.length,
      ...treatment,
    };
    return new CoreInstance(
      core,
      configuration,
      {
        submit:
          sharing === undefined
            ? (operation) => this.push(OutgoingType.Operation, operation, 0, 0)
            : (operation) => this.routeOperation(sharing, operation),
        fill: (slot, bufferOffset, length) => this.fill(slot, bufferOffset, length),
        finish: (slot, status) => this.finish(slot, status),
      },
      sharing && {
        memory: sharing.parts.memory,
        layoutAddress: sharing.parts.layoutAddress === 0 ? undefined : sharing.parts.layoutAddress,
      },
    );
  }

  /** One turn and one pass through the core. */
  step(mode: TurnMode): void {
    this.takeTurn(mode);
    if (this.sharing === undefined) this.pass();
    else this.alone(this.sharing, this.passHere);
  }

  /** Runs something that enters the core or reads its records while no other thread does. */
  locked<T>(run: () => T): T {
    return this.sharing === undefined ? run() : this.alone(this.sharing, run);
  }

  private alone<T>(sharing: CoreSharing, run: () => T): T {
    sharing.acquire();
    try {
      sharing.sleeps = false;
      if (sharing.broken && this.trap === undefined) this.abandonCore(new Error('The engine failed in another thread'));
      return run();
    } finally {
      // What others have left goes out with the next turn; what they leave from now on wakes its wait.
      sharing.drain(this.takeEntry);
      sharing.sleeps = true;
      sharing.release();
      this.wakeOthers(sharing);
    }
  }

  private pass(): void {
    if (this.heldSlots.length > 0 && !this.isHeld) this.submitHeld();
    const { events } = this;
    const end = (1 + events[0]) * QUAD;
    let position = QUAD;
    try {
      for (; position < end; position += QUAD) {
        this.dispatch(events[position], events[position + 1], events[position + 2], events[position + 3]);
      }
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      this.abandonCore(error);
      for (position += QUAD; position < end; position += QUAD) {
        this.dispatch(events[position], events[position + 1], events[position + 2], events[position + 3]);
      }
    }
  }

  /**
   * Opens the image, and what lies behind it before that; first of all requests.
   *
   * @param flags RequestFlag bits
   * @throws CorralError
   */
  open(flags: number): ImageFacts {
    if (this.hasBacking) this.openBacking(this.helper as RingHelper);
    this.openFlags = flags;
    const facts = this.control(RequestKind.Open, flags, readFacts);
    this.setScratch(2 * facts.clusterSize);
    return facts;
  }

  /**
   * Closes the image and opens it again with a metadata cache of so many bytes, in another core; what that counts begins
   * anew. The guest must be held, and the core nobody else's. When it fails the image is open as before; where not even
   * that is possible, the engine has failed.
   *
   * @throws CorralError with which it failed
   */
  changeCache(cacheSize: number): void {
    // Ahead of everything else: so much memory may not be there.
    const next = this.makeCore(cacheSize);
    if ((this.openFlags & RequestFlag.Writable) !== 0) {
      // What must not be written any more would be forgotten. Such a request changes nothing else.
      this.run({ kind: RequestKind.WriteZeroes });
      this.run({ kind: RequestKind.Close });
    }
    try {
      this.openIn(next);
      this.cacheSize = cacheSize;
    } catch (error) {
      try {
        // A small cache has no room for as many bitmaps.
        this.openIn(this.makeCore(this.cacheSize));
      } catch (again) {
        this.abandonCore(again as Error);
      }
      throw error;
    }
  }

  private openIn(core: CoreInstance): void {
    const { descriptor, fileLength, dataFile } = this.options;
    core.setFileLengths({
      fileLength: lengthNow(descriptor, fileLength),
      dataFileLength: dataFile && lengthNow(dataFile.descriptor, dataFile.length),
    });
    while (this.ring.statistics().operationsInFlight > 0) this.step(TurnMode.Wait);
    this.ring.setMemory(memoryOf(core, false));
    this.core = core;
    this.words = new Uint32Array(core.memory);
    this.errnos.fill(0);
    this.causes.clear();
    this.control(RequestKind.Open, this.openFlags, () => undefined);
  }

  /** False while a helper thread may be using the image file: `close` should wait. */
  get helperEnded(): boolean {
    return this.helper?.ended ?? true;
  }

  /** Asks the helper thread to end, when nothing of it is needed any more. */
  endHelper(): void {
    this.helper?.close();
  }

  /** The helper thread has ended by itself. What it had in hand, and all that would need it, fails. */
  helperLost(reason: string): void {
    this.helper?.lost(reason);
  }

  /**
   * Runs a control request to its end, serving everything else meanwhile.
   *
   * @param collect called when it has succeeded, while its records are valid
   * @throws CorralError with which it failed
   */
  control<T>(kind: number, flags: number, collect: (core: CoreInstance, record: RequestView) => T): T {
    return this.run({ kind, flags, collect }) as T;
  }

  /**
   * As `control`, for any control request; of `request`, buffer and signal do not matter.
   *
   * @throws CorralError with which it failed
   */
  run<T>(request: EngineRequest<T>): T | undefined {
    let outcome: { value: T | undefined } | { error: CorralError } | undefined;
    const begin = (): void => {
      request.prepare?.(this.core);
      const record = this.core.request(this.controlSlot);
      record.kind = request.kind;
      record.flags = request.flags ?? 0;
      record.guestOffset = request.guestOffset ?? 0;
      record.length = request.length ?? 0;
      record.result = 0;
      this.controlDone = (status, error) => {
        outcome =
          status === Status.Ok
            ? { value: request.collect?.(this.core, this.core.request(this.controlSlot)) }
            : { error: error ?? this.core.failureError(status, this.causeOfFailure()) };
      };
      if (this.trap === undefined) this.enterCore(() => this.core.submit(this.controlSlot));
    };
    this.locked(begin);
    while (outcome === undefined) {
      if (this.trap !== undefined) throw new CorralError('ERR_INTERNAL', { cause: this.trap });
      this.step(TurnMode.Wait);
    }
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }

  /** Comes back when no request of the kernel is under way, on any queue; those that come from now on wait. */
  holdGuest(): void {
    this.locked(() => this.setHeld(true));
    while (this.trap === undefined && this.locked(() => this.slotStates.includes(SlotState.Served))) {
      this.step(TurnMode.Wait);
    }
  }

  /** What has waited since `holdGuest` goes on, of each queue in the order in which it came. */
  releaseGuest(): void {
    this.locked(() => {
      this.setHeld(false);
      this.submitHeld();
    });
    this.wakeAllOthers();
  }

  private get isHeld(): boolean {
    return this.sharing?.held ?? this.guestHeld;
  }

  private setHeld(held: boolean): void {
    if (this.sharing === undefined) this.guestHeld = held;
    else this.sharing.held = held;
  }

  private submitHeld(): void {
    const held = this.heldSlots;
    this.heldSlots = [];
    for (const slot of held) {
      // A trap has answered all of them.
      if (this.trap !== undefined) return;
      this.slotStates[slot] = SlotState.Served;
      this.enterCore(() => this.core.submit(slot));
    }
  }

  /**
   * What the image holds of the disk goes into what lies behind it, and is durable there when this comes back. The image
   * itself must be flushed, and the guest held.
   *
   * @param bytesPerSecond 0: as many as can be
   * @throws CorralError with which it failed; the image holds the disk as before
   */
  commitBehind(bytesPerSecond: number): void {
    const helper = this.helper as RingHelper;
    helper.commit(bytesPerSecond);
    while (helper.committed === undefined) this.step(TurnMode.Wait);
    if (helper.committed.error !== undefined) throw helper.committed.error;
  }

  /** The core has failed: nobody is to enter it, or to wait for it. */
  private tellAll(): void {
    const { sharing } = this;
    if (sharing === undefined || sharing.broken) return;
    sharing.breakDown();
    this.wakeAllOthers();
  }

  private wakeAllOthers(): void {
    const { sharing } = this;
    if (sharing === undefined) return;
    for (let thread = 0; thread < sharing.parts.threads; thread++) if (thread !== sharing.thread) this.wake(thread);
  }

  /** The block device is so many bytes long from now on, for every queue. Comes back when all threads know. */
  setDeviceSize(size: number): void {
    this.ring.setDeviceSize(size);
    const { sharing } = this;
    if (sharing === undefined) return;
    this.locked(() => {
      for (let thread = 0; thread < sharing.parts.threads; thread++) {
        if (thread !== sharing.thread)
          sharing.post(thread, DEVICE_SIZE, (size % 2 ** 32) | 0, Math.floor(size / 2 ** 32), 0);
      }
    });
    while (!sharing.settled) sharing.pause();
  }

  /** The core's scratch buffers. */
  private setScratch(length: number): void {
    this.scratch = this.sharing && new SharedArrayBuffer(length * SCRATCH_COUNT);
    this.ring.setScratch(this.scratch === undefined ? length : new Uint8Array(this.scratch));
  }

  /** Other threads are in the core, too: what holds up this one's guest does not hold up theirs. */
  get isShared(): boolean {
    return this.sharing !== undefined;
  }

  /** Requests of the kernel that made no sense, on every queue. */
  get malformed(): number {
    return this.sharing?.malformed ?? this.ring.statistics().malformed;
  }

  /** What other threads need to serve the same image; once it is open. */
  sharedParts(): SharedParts | undefined {
    const { parts } = this.sharing ?? {};
    return (
      parts && {
        ...parts,
        layoutAddress: this.core.layoutAddress,
        scratch: this.scratch,
        errnos: this.errnos.buffer as SharedArrayBuffer,
      }
    );
  }

  /** The threads that joined in this core end: nothing is to be served any more. */
  endOthers(): void {
    const { sharing } = this;
    if (sharing === undefined) return;
    sharing.end();
    this.wakeAllOthers();
  }

  /** Waits for operations under way and gives file and ring back. Requests that were not answered stay so. */
  close(): void {
    for (const waker of this.wakers) waker?.close();
    this.ring.close();
    this.helper?.dropPort();
  }

  private dispatch(type: EventType, a: number, b: number, c: number): void {
    switch (type) {
      case EventType.Operation:
        if (this.trap !== undefined) return;
        if (b !== Status.Ok) this.noteFailure(a, c);
        this.core.complete(a, b as Status);
        return;
      case EventType.Request:
        this.meter?.begin(a, this.core.request(a).kind, this.core.request(a).length);
        this.slotStates[a] = SlotState.Served;
        if (this.trap !== undefined) this.finish(a, Status.Broken);
        else if (this.isHeld) this.hold(a);
        else this.core.submit(a);
        return;
      case EventType.Help:
        this.help(a, b, c);
        return;
      case EventType.Control:
        this.helper?.takeReports();
        this.handlers.onControl?.();
        return;
      case EventType.Malformed:
        this.sharing?.noteMalformed();
        this.handlers.onFailure?.(malformedError(b, c));
        return;
      case EventType.QueueStopped:
        this.handlers.onQueueStopped?.(a);
        return;
    }
  }

  private hold(slot: number): void {
    this.slotStates[slot] = SlotState.Held;
    this.heldSlots.push(slot);
  }

  private makeHelper(
    { start, jobs, backing }: HelperOptions,
    { descriptor, direct }: Pick<RingEngineOptions, 'descriptor' | 'direct'>,
  ): RingHelper {
    return new RingHelper({
      data: { wakeDescriptor: this.ring.wakeDescriptor, descriptor, direct, backing },
      lanes: jobs ?? DEFAULT_JOBS,
      start,
      onAnswer: (operation, bytes, error) => this.helped(operation, bytes, error),
    });
  }

  /** Ahead of the image, which is not to be changed when something behind it is missing. */
  private openBacking(helper: RingHelper): void {
    helper.start();
    while (helper.backing === undefined) this.step(TurnMode.Wait);
    if (helper.backing.error !== undefined) throw helper.backing.error;
  }

  /** An operation for the helper, of so many bytes. The ring holds its buffer until `deliver`. */
  private help(operation: number, length: number, kind: number): void {
    const job =
      this.trap === undefined ? jobOf(this.core.operation(operation), kind, length, this.core.info) : undefined;
    if (job !== undefined && this.helper !== undefined) this.helper.ask(operation, job);
    else this.endHelped(operation, null, Status.Invalid);
  }

  private helped(operation: number, bytes: Uint8Array | undefined, error: CorralError | undefined): void {
    if (error === undefined) {
      this.endHelped(operation, bytes ?? null, Status.Ok);
      return;
    }
    this.causes.set(operation, error);
    this.endHelped(operation, null, error.code === 'ERR_IMAGE_CORRUPT' ? Status.Corrupt : Status.InputOutput);
  }

  private endHelped(operation: number, bytes: Uint8Array | null, status: Status): void {
    const delivered = this.ring.deliver(operation, bytes);
    if (this.trap !== undefined) return;
    this.enterCore(() => this.core.complete(operation, delivered ? status : Status.Invalid));
  }

  private fill(slot: number, bufferOffset: number, length: number): void {
    if (this.isForeign(slot)) this.post(slot, OutgoingType.Fill, bufferOffset, length);
    else this.push(OutgoingType.Fill, slot, bufferOffset, length);
  }

  /** Called by the core, from inside of `submit` and `complete`. */
  private finish(slot: number, status: Status): void {
    if (this.isForeign(slot)) this.finishForeign(slot, status);
    else {
      if (status !== Status.Ok && this.slotStates[slot] !== SlotState.Free) this.tell(status);
      this.endSlot(slot, status);
    }
  }

  private endSlot(slot: number, status: Status): void {
    if (this.slotStates[slot] !== SlotState.Free) {
      this.slotStates[slot] = SlotState.Free;
      this.meter?.end(slot, status !== Status.Ok);
      this.push(OutgoingType.Finish, slot, errnoOf(status), 0);
      // Whoever holds the guest waits for the last one.
      if (this.sharing?.held && this.sharing.thread !== 0) this.wake(0);
    } else if (slot === this.controlSlot) {
      this.controlDone?.(status);
    } else {
      const position = 2 * this.finishedCount++;
      this.finished[position] = slot;
      this.finished[position + 1] = status;
    }
  }

  /** The slot belongs to another thread of a shared core. */
  private isForeign(slot: number): boolean {
    return this.sharing !== undefined && this.sharing.ownerOf(slot) !== this.sharing.thread;
  }

  /** What moves guest bytes is for the ring that has them; everything else for whoever is here. */
  private routeOperation(sharing: CoreSharing, operation: number): void {
    const word = (this.core.layout.operations + operation * 64) >>> 2;
    const slot = this.words[word + 2] as number;
    if (this.words[word + 1] !== BufferSpace.Guest || sharing.ownerOf(slot) === sharing.thread) {
      this.push(OutgoingType.Operation, operation, 0, 0);
    } else {
      this.post(slot, OutgoingType.Operation, operation, 0);
    }
  }

  private finishForeign(slot: number, status: Status): void {
    const error = status === Status.Ok ? undefined : this.core.failureError(status, this.causeOfFailure());
    if (slot !== this.controlSlot) {
      if (error !== undefined) this.handlers.onFailure?.(error);
      this.post(slot, OutgoingType.Finish, status, 0);
      return;
    }
    if (error !== undefined) this.sharing?.leaveError(error);
    this.post(slot, CONTROL_ENDED, status, 0);
  }

  private post(slot: number, type: number, b: number, c: number): void {
    const { sharing } = this;
    if (sharing === undefined) return;
    const a = type === OutgoingType.Operation ? b : slot;
    if (!sharing.post(sharing.ownerOf(slot), type, a, b, c)) {
      throw new WebAssembly.RuntimeError('the core asks for more than any request needs');
    }
  }

  /** Takes what another thread has left here. */
  private readonly takeEntry = (type: number, a: number, b: number, c: number): void => {
    const status = b as Status;
    if (type === CONTROL_ENDED)
      this.controlDone?.(status, status === Status.Ok ? undefined : this.sharing?.takeError());
    else if (type === OutgoingType.Finish) this.endSlot(a, status);
    else if (type === DEVICE_SIZE) this.ring.setDeviceSize((a >>> 0) + b * 2 ** 32);
    // Operations of a core that has failed are not carried out.
    else if (this.trap === undefined) this.push(type, a, b, c);
  };

  private wakeOthers(sharing: CoreSharing): void {
    for (let thread = sharing.takeSleepers(); thread !== undefined; thread = sharing.takeSleepers()) this.wake(thread);
  }

  /** Ends another thread's wait in its ring. */
  wake(thread: number): void {
    const descriptor = this.sharing?.wakeDescriptorOf(thread) ?? 0;
    if (descriptor === 0) return;
    this.wakers[thread] ??= new this.addon.Waker(descriptor);
    this.wakers[thread]?.wake();
  }

  private tell(status: Status): void {
    if (this.handlers.onFailure === undefined) return;
    const { trap } = this;
    this.handlers.onFailure(
      trap === undefined
        ? this.core.failureError(status, this.causeOfFailure())
        : new CorralError('ERR_INTERNAL', { cause: trap, reason: `The engine failed: ${String(trap)}` }),
    );
  }

  private push(type: OutgoingType, a: number, b: number, c: number): void {
    const { outgoing } = this;
    if (this.outgoingEnd === outgoing.length) this.takeTurn(TurnMode.Apply);
    const position = this.outgoingEnd;
    outgoing[position] = type;
    outgoing[position + 1] = a;
    outgoing[position + 2] = b;
    outgoing[position + 3] = c;
    this.outgoingEnd = position + QUAD;
  }

  private takeTurn(mode: TurnMode): void {
    const { outgoing } = this;
    outgoing[0] = (this.outgoingEnd - QUAD) / QUAD;
    outgoing[1] = mode;
    this.outgoingEnd = QUAD;
    this.meter?.beforeTurn();
    this.turn();
    this.meter?.afterTurn();
  }

  private enterCore(call: () => void): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      this.abandonCore(error);
    }
  }

  /** A trap is a bug of ours: the instance is not entered again, and nothing that it knew of is answered as done. */
  private abandonCore(trap: Error): void {
    this.trap = trap;
    this.tellAll();
    this.forgetOperations();
    for (let slot = 0; slot < this.slotStates.length; slot++) {
      if (this.slotStates[slot] !== SlotState.Free && !this.isForeign(slot)) this.finish(slot, Status.Broken);
    }
  }

  /** Of what is written down for the next turn, keeps only the answers: they were decided before. */
  private forgetOperations(): void {
    const { outgoing, outgoingEnd } = this;
    this.outgoingEnd = QUAD;
    for (let position = QUAD; position < outgoingEnd; position += QUAD) {
      if (outgoing[position] !== OutgoingType.Finish) continue;
      this.push(OutgoingType.Finish, outgoing[position + 1], outgoing[position + 2], 0);
    }
  }

  private noteFailure(operation: number, errno: number): void {
    this.errnos[operation] = errno;
    this.causes.delete(operation);
  }

  private causeOfFailure(): unknown {
    const { operation } = this.core.failure;
    const cause = this.causes.get(operation);
    if (cause !== undefined) return cause;
    const errno = this.errnos[operation];
    return errno === undefined || errno === 0 ? undefined : systemErrorOf(errno);
  }
}

function memoryOf({ memory, layout }: CoreInstance, shared: boolean): CoreMemory {
  const { requests, requestCapacity, operations, operationCapacity } = layout;
  const records = { requests, requestCapacity, operations, operationCapacity };
  return { memory: shared ? new Uint8Array(memory) : memory, ...records };
}

/** A device has the length that it had. */
function lengthNow(descriptor: number, before: number): number {
  const status = fstatSync(descriptor);
  return status.isFile() ? status.size : before;
}

/** Whoever sees an operation fail may not be who reports it. */
function sharedErrnos(sharing: CoreSharing | undefined, count: number): ArrayBufferLike {
  return sharing === undefined ? new ArrayBuffer(4 * count) : new SharedArrayBuffer(4 * count);
}
