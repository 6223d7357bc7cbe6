/** One instance of the core at work on the simulated disk: buffers, operations, answers. */

import { BufferSpace, OperationKind, RequestKind, Status } from '../../host/abi.js';
import { CoreInstance } from '../../host/core-instance.js';
import { makePatternMemory, type PatternMemory } from './pattern.js';
import { LONGEST_REQUEST, type Scenario } from './scenario.js';
import type { Completion, DiskOperation, SimulatedDisk } from './simulated-disk.js';
import { SimulationFailure, type Trace } from './trace.js';

/** How one request ended. */
export interface Answer {
  readonly slot: number;
  readonly status: Status;
  /** The failure in words; empty when there is none. */
  readonly message: string;
}

const REQUEST_NAMES = namesOf(RequestKind);
const OPERATION_NAMES = namesOf(OperationKind);
const STATUS_NAMES = namesOf(Status);

/** So little that most checks need several rounds. */
const CHECK_SIZE = 4096;
const WITHOUT_BUFFER: readonly number[] = [OperationKind.Flush, OperationKind.WriteZeroes, OperationKind.Discard];

/** Buffers of requests, for every engine that ever runs: they are filled anew before each use. */
const buffers: PatternMemory[] = [];

interface Slot {
  readonly memory: PatternMemory;
  /** Where the request's buffer begins in `memory`. */
  start: number;
  length: number;
  busy: boolean;
}

export class Engine {
  readonly core: CoreInstance;
  private readonly slots: Slot[] = [];
  private answers: Answer[] = [];

  constructor(
    module: WebAssembly.Module,
    { requestCapacity }: Scenario,
    private readonly disk: SimulatedDisk,
    private readonly trace: Trace,
    checkSize = CHECK_SIZE,
  ) {
    for (let slot = 0; slot < requestCapacity; slot++) {
      buffers[slot] ??= makePatternMemory(LONGEST_REQUEST + 1024);
      this.slots.push({ memory: buffers[slot] as PatternMemory, start: 0, length: 0, busy: false });
    }
    const configuration = {
      requestCapacity,
      cacheSize: 0,
      checkSize,
      fileLength: disk.length,
      zeroBeyondEnd: disk.regular,
    };
    this.core = new CoreInstance(module, configuration, {
      submit: (operation) => this.disk.submit(this.takeOperation(operation)),
      fill: (request, bufferOffset, length) => this.guestBytes(request, bufferOffset, length).fill(0),
      finish: (request, status) => this.finish(request, status),
    });
  }

  get freeSlot(): number {
    return this.slots.findIndex(({ busy }) => !busy);
  }

  /** The buffer of a request: a guest byte at `offset` lies at `start`, which is the same modulo 8. */
  buffer(slot: number, offset: number, length: number): { memory: PatternMemory; start: number } {
    const record = this.slotAt(slot);
    record.start = 64 + (offset % 8);
    record.length = length;
    return record;
  }

  /** Sends a request; its buffer has been prepared. */
  submit(slot: number, kind: RequestKind, flags: number, guestOffset: number, length: number): void {
    const record = this.slotAt(slot);
    const request = this.core.request(slot);
    request.kind = kind;
    request.flags = flags;
    request.guestOffset = guestOffset;
    request.length = length;
    record.busy = true;
    this.trace.event(REQUEST_NAMES[kind] as string, slot, guestOffset, length);
    this.guard(() => this.core.submit(slot));
  }

  complete({ index, status }: Completion): void {
    this.trace.event('complete', index, status);
    this.guard(() => this.core.complete(index, status));
  }

  cancel(slot: number): void {
    this.trace.event('cancel', slot);
    this.guard(() => this.core.cancel(slot));
  }

  /** Requests that have ended since the last call. */
  takeAnswers(): readonly Answer[] {
    const answers = this.answers;
    this.answers = [];
    return answers;
  }

  private guard(call: () => Status): void {
    try {
      const status = call();
      if (status !== Status.Ok) throw new SimulationFailure(`an export answered ${STATUS_NAMES[status]}`);
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) throw new SimulationFailure(`the core trapped: ${error.stack}`);
      throw error;
    }
  }

  private finish(slot: number, status: Status): void {
    const record = this.slotAt(slot);
    if (!record.busy) throw new SimulationFailure(`request ${slot} was finished twice`);
    record.busy = false;
    const message = status === Status.Ok ? '' : `${STATUS_NAMES[status]}: ${this.core.failureError(status).message}`;
    this.trace.event('finish', slot, status);
    if (message !== '') this.trace.note(() => message);
    this.answers.push({ slot, status, message });
  }

  private takeOperation(index: number): DiskOperation {
    const view = this.core.operation(index);
    const { kind, space, hostOffset, length, bufferOffset, zeroBefore, zeroAfter } = view;
    const guest = space === BufferSpace.Guest;
    const moves = kind === OperationKind.Read || kind === OperationKind.Write;
    if (!moves && !WITHOUT_BUFFER.includes(kind)) {
      throw new SimulationFailure(`operation ${OPERATION_NAMES[kind]} is not simulated yet`);
    }
    const buffer = guest
      ? this.guestBytes(view.request, bufferOffset, length)
      : this.core.bytes(moves ? bufferOffset : 0, moves ? length : 0);
    this.trace.event(OPERATION_NAMES[kind] as string, index, hostOffset, zeroBefore + length + zeroAfter);
    return {
      index,
      kind: kind as OperationKind,
      table: !guest,
      offset: hostOffset,
      length: zeroBefore + length + zeroAfter,
      buffer,
      zeroBefore,
    };
  }

  private guestBytes(slot: number, bufferOffset: number, length: number): Uint8Array {
    const record = this.slotAt(slot);
    if (!record.busy) throw new SimulationFailure(`request ${slot} is over, but its buffer is used`);
    if (bufferOffset + length > record.length) throw new SimulationFailure(`request ${slot} uses more than its buffer`);
    return record.memory.bytes.subarray(record.start + bufferOffset, record.start + bufferOffset + length);
  }

  private slotAt(slot: number): Slot {
    const record = this.slots[slot];
    if (record === undefined) throw new SimulationFailure(`there is no request ${slot}`);
    return record;
  }
}

/** Member names of an enum by value. */
function namesOf(members: Readonly<Record<string, number>>): readonly string[] {
  const names: string[] = [];
  for (const [name, value] of Object.entries(members)) names[value] = name;
  return names;
}
