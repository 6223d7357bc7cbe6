/**
 * A raw disk on one ring: the loop of a thread that serves it. Every request of the kernel is one operation on the file, at the
 * same place, and a flush after it where it is to be durable; no core takes part.
 *
 * The header guard is the ring's: sectors are written whole, so what the first one becomes is in the write itself.
 */
import { BufferSpace, OperationKind, OperationView, RequestFlag, RequestKind, RequestView, Status } from '../abi.js';
import { CorralError } from '../errors.js';
import { packedSignatures } from '../header-guard.js';
import { type Addon, EventType, OutgoingType, QUAD, type Ring, TurnMode } from './addon.js';
import { errnoOf, systemErrorOf } from './errno.js';
import { malformedError } from './malformed-error.js';
import type { RequestMeter } from './request-meter.js';
import type { RingEngineHandlers } from './ring-engine-options.js';

const RECORD = 64;
const EVENT_CAPACITY = 32;
const EPERM = 1;

export interface RawRingOptions {
  addon: Addon;
  /** The file; stays the caller's. */
  descriptor: number;
  writable: boolean;
  /** Requests of the kernel at one time. */
  guestCapacity: number;
  /** Flushes do nothing. */
  ignoresFlushes: boolean;
  /** Writes that put an image's header into the first sector are refused. */
  guard: boolean;
  meter?: RequestMeter;
}

const KINDS: Readonly<Partial<Record<number, OperationKind>>> = {
  [RequestKind.Read]: OperationKind.Read,
  [RequestKind.Write]: OperationKind.Write,
  [RequestKind.WriteZeroes]: OperationKind.WriteZeroes,
  [RequestKind.Discard]: OperationKind.Discard,
  [RequestKind.Flush]: OperationKind.Flush,
};

export class RawRing {
  readonly ring: Ring;
  /** There is no core that could fail. */
  readonly trap = undefined;
  /** Nor anybody who helps. */
  readonly helperEnded = true;
  private readonly turn: Ring['turn'];
  private readonly memory: ArrayBuffer;
  /** Requests, and an operation for each; the last one is the host's own. */
  private readonly slots: number;
  private readonly outgoing: Int32Array;
  private readonly events = new Int32Array((1 + EVENT_CAPACITY) * QUAD);
  private outgoingEnd = QUAD;
  /** 1: a flush follows. */
  private readonly durable: Uint8Array;
  private ownStatus: { status: Status; errno: number } | undefined;

  constructor(
    private readonly options: RawRingOptions,
    private readonly handlers: RingEngineHandlers = {},
  ) {
    const { addon, descriptor, writable, ignoresFlushes, guard, guestCapacity } = options;
    this.slots = guestCapacity + 1;
    this.memory = new ArrayBuffer(2 * this.slots * RECORD);
    // A slot has one operation or one answer at a time.
    this.outgoing = new Int32Array((1 + this.slots) * QUAD);
    this.durable = new Uint8Array(this.slots);
    this.ring = new addon.Ring({
      memory: this.memory,
      requests: 0,
      requestCapacity: this.slots,
      operations: this.slots * RECORD,
      operationCapacity: this.slots,
      outgoing: this.outgoing,
      events: this.events,
    });
    this.turn = this.ring.turn;
    this.ring.setFile(descriptor, {
      writable,
      ignoresFlushes,
      ...(guard ? { forbidden: packedSignatures() } : {}),
    });
  }

  /** One turn of the ring, and what follows from it. */
  step(mode: TurnMode): void {
    const { outgoing, events } = this;
    const { meter } = this.options;
    outgoing[0] = (this.outgoingEnd - QUAD) / QUAD;
    outgoing[1] = mode;
    this.outgoingEnd = QUAD;
    meter?.beforeTurn();
    this.turn();
    meter?.afterTurn();
    const end = (1 + events[0]) * QUAD;
    for (let position = QUAD; position < end; position += QUAD) {
      this.dispatch(events[position], events[position + 1], events[position + 2], events[position + 3]);
    }
  }

  /**
   * Everything that was answered before becomes durable. Serves meanwhile.
   *
   * @throws CorralError ERR_IO
   */
  flush(): void {
    this.ownStatus = undefined;
    this.start(this.slots - 1, OperationKind.Flush, 0, 0);
    while (this.ownStatus === undefined) this.step(TurnMode.Wait);
    const { status, errno } = this.ownStatus as { status: Status; errno: number };
    if (status !== Status.Ok) throw this.errorOf(errno);
  }

  /** Waits for operations under way and gives file and ring back. */
  close(): void {
    this.ring.close();
  }

  /** There are no other threads, and no helper. */
  endOthers(): void {}
  endHelper(): void {}
  helperLost(): void {}

  private dispatch(type: EventType, a: number, b: number, c: number): void {
    switch (type) {
      case EventType.Operation:
        this.operationEnded(a, b as Status, c);
        return;
      case EventType.Request:
        this.begin(a);
        return;
      case EventType.Control:
        this.handlers.onControl?.();
        return;
      case EventType.Malformed:
        this.handlers.onFailure?.(malformedError(b, c));
        return;
      case EventType.QueueStopped:
        this.handlers.onQueueStopped?.(a);
        return;
      case EventType.Help:
        // Only for what no raw disk has.
        this.ring.deliver(a, null);
        return;
    }
  }

  private begin(slot: number): void {
    const { kind, flags, guestOffset, length } = new RequestView(this.memory, slot * RECORD);
    this.options.meter?.begin(slot, kind, length);
    const operation = KINDS[kind];
    if (operation === undefined) {
      this.finish(slot, Status.Unsupported, 0);
      return;
    }
    this.durable[slot] = (flags & RequestFlag.Durable) !== 0 ? 1 : 0;
    this.start(slot, operation, guestOffset, length);
  }

  private start(slot: number, kind: OperationKind, hostOffset: number, length: number): void {
    const record = new OperationView(this.memory, (this.slots + slot) * RECORD);
    record.kind = kind;
    record.space = BufferSpace.Guest;
    record.request = slot;
    record.hostOffset = hostOffset;
    record.length = length;
    this.push(OutgoingType.Operation, slot, 0);
  }

  private operationEnded(slot: number, status: Status, errno: number): void {
    if (slot === this.slots - 1) {
      this.ownStatus = { status, errno };
    } else if (status === Status.Ok && this.durable[slot] === 1) {
      this.durable[slot] = 0;
      this.start(slot, OperationKind.Flush, 0, 0);
    } else {
      this.finish(slot, status, errno);
    }
  }

  private finish(slot: number, status: Status, errno: number): void {
    this.options.meter?.end(slot, status !== Status.Ok);
    this.push(OutgoingType.Finish, slot, errnoOf(status));
    if (status !== Status.Ok) this.handlers.onFailure?.(this.errorOf(errno));
  }

  private errorOf(errno: number): CorralError {
    if (errno === EPERM && this.options.guard) {
      const reason = 'The first sector of this raw disk would become the header of an image';
      return new CorralError('ERR_PERMISSION', { reason });
    }
    const cause = systemErrorOf(errno);
    return new CorralError('ERR_IO', { reason: cause.message, cause });
  }

  private push(type: OutgoingType, a: number, b: number): void {
    const { outgoing, outgoingEnd } = this;
    outgoing[outgoingEnd] = type;
    outgoing[outgoingEnd + 1] = a;
    outgoing[outgoingEnd + 2] = b;
    outgoing[outgoingEnd + 3] = 0;
    this.outgoingEnd = outgoingEnd + QUAD;
  }
}
