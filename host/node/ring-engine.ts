/**
 * One core instance on one ring: the loop of a thread that serves an image.
 *
 * A step is one turn of the ring and one pass through the core: completions go in, and what the core asks for is written
 * down for the next turn. Nothing in a step allocates. The core's imports only take notes, so the core is never entered
 * twice. Guest bytes are never seen here: the ring moves them between its buffers and the file.
 */
import { RequestKind, type RequestView, Status } from '../abi.js';
import { type CoreConfiguration, CoreInstance } from '../core-instance.js';
import type { EngineRequest } from '../engine.js';
import { CorralError } from '../errors.js';
import { type ImageFacts, readFacts } from '../image-facts.js';
import type { Addon, Ring } from './addon.js';
import { EventType, OutgoingType, QUAD, TurnMode } from './addon.js';
import { errnoOf, systemErrorOf } from './errno.js';
import { jobOf } from './helper-job.js';
import type { BackingData, HelperData } from './helper-messages.js';
import type { RequestMeter } from './request-meter.js';
import { RingHelper } from './ring-helper.js';

/** Entries that the core can ask for between two turns before they are handed over early. */
const OUTGOING_CAPACITY = 1024;

/**
 * Events taken from the ring at once. Few, so that what the first ones lead to is under way while the others are looked
 * at: a device that idles costs more than a few system calls.
 */
const EVENT_CAPACITY = 32;

/** Jobs of the helper at once, unless the host says something else. */
const DEFAULT_JOBS = 8;

export interface RingEngineOptions {
  addon: Addon;
  core: WebAssembly.Module;
  /** The image file; stays the caller's, who must not write to it otherwise. */
  descriptor: number;
  writable: boolean;
  fileLength: number;
  zeroBeyondEnd: boolean;
  /** Request slots 0 to guestCapacity - 1 are for guest requests; one more is kept for control requests. */
  guestCapacity: number;
  /** Bytes of the metadata cache. */
  cacheSize: number;
  /** The image's external data file, as open as the image; without it images that have one are refused by name. */
  dataFile?: { descriptor: number; length: number };
  /** A flush of the files does nothing: who says so bears the loss of all of it with the machine. */
  ignoresFlushes?: boolean;
  /** How the core is to treat the image, where that is not as its header says. */
  treatment?: Treatment;
  /** The files are open past the page cache. */
  direct?: boolean;
  /** For what is more than file I/O; without it, what needs it is refused by name. */
  helper?: HelperOptions;
  /** Counts the kernel's requests; of `guestCapacity` slots. */
  meter?: RequestMeter;
}

export type Treatment = Pick<CoreConfiguration, 'lazyRefcounts' | 'keepDiscarded' | 'passDiscard' | 'overlapChecks'>;

/** The thread that decompresses, and reads what lies behind the image. Images that need none never start it. */
export interface HelperOptions {
  /** Starts the thread, with `data.port` transferred (`startHelperThread`). Called between two turns, at most once. */
  start(data: HelperData): void;
  /** Jobs at once; each holds memory for its result. Default: 8. */
  jobs?: number;
  /** How to open what lies behind the image; without it images with a backing file are refused by name. */
  backing?: BackingData;
}

/** What happens besides requests of the kernel, which the engine answers by itself. Called between two turns. */
export interface RingEngineHandlers {
  /** Somebody woke the ring. */
  onControl?(): void;
  /** A request of the kernel is answered with an error; this is why. */
  onFailure?(error: CorralError): void;
  /** The ublk queue is over; `errno` is 0 when it was stopped in order. */
  onQueueStopped?(errno: number): void;
}

export class RingEngine {
  readonly core: CoreInstance;
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
  /** 1 for each slot whose request came from the kernel and was not answered. */
  private readonly serving: Uint8Array;
  /** The errno with which each operation failed last: the cause of what the core reports. */
  private readonly errnos: Int32Array;
  /** Why the helper failed with an operation, where that was its last failure. */
  private readonly causes = new Map<number, CorralError>();
  private readonly hasBacking: boolean;
  private readonly helper: RingHelper | undefined;
  private readonly meter: RequestMeter | undefined;
  /** Slots of requests that wait for `releaseGuest`; undefined while nobody holds the guest. */
  private heldSlots: number[] | undefined;
  private controlDone: ((status: Status) => void) | undefined;

  /** @throws CorralError when the core cannot be had in this size; SystemError when the kernel refuses the ring */
  constructor(options: RingEngineOptions, handlers: RingEngineHandlers = {}) {
    const { addon, guestCapacity } = options;
    this.handlers = handlers;
    this.meter = options.meter;
    this.controlSlot = guestCapacity;
    this.serving = new Uint8Array(guestCapacity + 1);
    this.finished = new Int32Array(2 * (guestCapacity + 1));
    this.core = new CoreInstance(
      options.core,
      {
        requestCapacity: guestCapacity + 1,
        cacheSize: options.cacheSize,
        checkSize: 0,
        fileLength: options.fileLength,
        zeroBeyondEnd: options.zeroBeyondEnd,
        scratch: true,
        decompresses: options.helper !== undefined,
        backing: options.helper?.backing !== undefined,
        dataFileLength: options.dataFile?.length,
        ...options.treatment,
      },
      {
        submit: (operation) => this.push(OutgoingType.Operation, operation, 0, 0),
        fill: (slot, bufferOffset, length) => this.push(OutgoingType.Fill, slot, bufferOffset, length),
        finish: (slot, status) => this.finish(slot, status),
      },
    );
    const { requests, requestCapacity, operations, operationCapacity } = this.core.layout;
    this.errnos = new Int32Array(operationCapacity);
    this.ring = new addon.Ring({
      memory: this.core.memory,
      operations,
      operationCapacity,
      requests,
      requestCapacity,
      outgoing: this.outgoing,
      events: this.events,
    });
    this.turn = this.ring.turn;
    const { writable, ignoresFlushes, dataFile } = options;
    const use = { writable, ignoresFlushes: ignoresFlushes ?? false };
    this.ring.setFile(options.descriptor, use);
    if (dataFile !== undefined) this.ring.setDataFile(dataFile.descriptor, use);
    this.helper = options.helper && this.makeHelper(options.helper, options);
    this.hasBacking = options.helper?.backing !== undefined;
  }

  /** One turn and one pass through the core. */
  step(mode: TurnMode): void {
    this.takeTurn(mode);
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
    const facts = this.control(RequestKind.Open, flags, readFacts);
    this.ring.setScratch(2 * facts.clusterSize);
    return facts;
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
    request.prepare?.(this.core);
    const record = this.core.request(this.controlSlot);
    record.kind = request.kind;
    record.flags = request.flags ?? 0;
    record.guestOffset = request.guestOffset ?? 0;
    record.length = request.length ?? 0;
    record.result = 0;
    this.controlDone = (status) => {
      outcome =
        status === Status.Ok
          ? { value: request.collect?.(this.core, this.core.request(this.controlSlot)) }
          : { error: this.core.failureError(status, this.causeOfFailure()) };
    };
    if (this.trap === undefined) this.enterCore(() => this.core.submit(this.controlSlot));
    while (outcome === undefined) {
      if (this.trap !== undefined) throw new CorralError('ERR_INTERNAL', { cause: this.trap });
      this.step(TurnMode.Wait);
    }
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }

  /** Comes back when no request of the kernel is under way; those that come from now on wait. */
  holdGuest(): void {
    const held: number[] = [];
    this.heldSlots = held;
    while (this.trap === undefined && this.serving.some((serving, slot) => serving === 1 && !held.includes(slot))) {
      this.step(TurnMode.Wait);
    }
  }

  /** What has waited since `holdGuest` goes on, in the order in which it came. */
  releaseGuest(): void {
    const held = this.heldSlots ?? [];
    this.heldSlots = undefined;
    for (const slot of held) {
      // A trap has answered all of them.
      if (this.trap === undefined) this.enterCore(() => this.core.submit(slot));
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

  /** Waits for operations under way and gives file and ring back. Requests that were not answered stay so. */
  close(): void {
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
        this.serving[a] = 1;
        this.meter?.begin(a, this.core.request(a).kind, this.core.request(a).length);
        if (this.trap !== undefined) this.finish(a, Status.Broken);
        else if (this.heldSlots !== undefined) this.heldSlots.push(a);
        else this.core.submit(a);
        return;
      case EventType.Help:
        this.help(a, b, c);
        return;
      case EventType.Control:
        this.helper?.takeReports();
        this.handlers.onControl?.();
        return;
      case EventType.QueueStopped:
        this.handlers.onQueueStopped?.(a);
        return;
    }
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

  /** Called by the core, from inside of `submit` and `complete`. */
  private finish(slot: number, status: Status): void {
    if (this.serving[slot] === 1) {
      this.serving[slot] = 0;
      if (status !== Status.Ok) this.tell(status);
      this.meter?.end(slot, status !== Status.Ok);
      this.push(OutgoingType.Finish, slot, errnoOf(status), 0);
    } else if (slot === this.controlSlot) {
      this.controlDone?.(status);
    } else {
      const position = 2 * this.finishedCount++;
      this.finished[position] = slot;
      this.finished[position + 1] = status;
    }
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
  private abandonCore(trap: WebAssembly.RuntimeError): void {
    this.trap = trap;
    this.forgetOperations();
    for (let slot = 0; slot < this.serving.length; slot++) {
      if (this.serving[slot] === 1) this.finish(slot, Status.Broken);
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
