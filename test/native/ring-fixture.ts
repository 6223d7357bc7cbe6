/** A ring over a temporary file, with plain memory in the place of the core's. */
import { closeSync, constants, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BufferSpace, type OperationKind, OperationView, Status } from '../../host/abi.js';
import { EventType, OutgoingType, QUAD, type Ring, requireAddon, TurnMode } from '../../host/node/addon.js';

const OPERATIONS = 1024;
const OPERATION_CAPACITY = 16;
const REQUESTS = 8192;
const REQUEST_CAPACITY = 8;

/** A folder that is hardly ever in memory, where a ring's operations are done at once. */
export const ON_DISK = join(import.meta.dirname, '../../.cache');

/** Where operations of these tests have their bytes. */
export const BUFFER = 65536;
export const MEMORY_LENGTH = 8 << 20;
export const GUEST_STRIDE = 65536;
export const GUEST_SLOTS = 8;

/** Fields of an operation; those left out are 0. */
export interface OperationFields {
  kind: OperationKind;
  space?: BufferSpace;
  request?: number;
  length?: number;
  hostOffset?: number | bigint;
  bufferOffset?: number;
  zeroBefore?: number;
  zeroAfter?: number;
  edges?: number;
  sourceOffset?: number;
  file?: number;
}

export interface RingEvent {
  type: EventType;
  a: number;
  b: number;
  c: number;
}

/** What became of an operation. */
export interface Outcome {
  status: Status;
  errno: number;
}

export const OK: Outcome = { status: Status.Ok, errno: 0 };
export const INVALID: Outcome = { status: Status.Invalid, errno: 0 };

export class RingFixture {
  readonly memory = new ArrayBuffer(MEMORY_LENGTH);
  readonly bytes = new Uint8Array(this.memory);
  readonly guest = new ArrayBuffer(GUEST_STRIDE * GUEST_SLOTS);
  readonly guestBytes = new Uint8Array(this.guest);
  readonly lengths = new Int32Array(GUEST_SLOTS);
  readonly outgoing = new Int32Array(65 * QUAD);
  readonly events: Int32Array;
  readonly ring: Ring;
  readonly path: string;
  private readonly folder: string;
  private readonly descriptor: number;

  /**
   * @param content of the file
   * @param folder where the file is made; what it is mounted from decides what fallocate can do
   */
  constructor(
    content: Uint8Array = new Uint8Array(0),
    { writable = true, eventCapacity = 64, folder = tmpdir(), direct = false } = {},
  ) {
    mkdirSync(folder, { recursive: true });
    this.folder = mkdtempSync(join(folder, 'corral-ring-'));
    this.path = join(this.folder, 'file');
    writeFileSync(this.path, content);
    this.descriptor = openSync(this.path, constants.O_RDWR | (direct ? constants.O_DIRECT : 0));
    this.events = new Int32Array((1 + eventCapacity) * QUAD);
    const { Ring } = requireAddon();
    this.ring = new Ring({
      memory: this.memory,
      operations: OPERATIONS,
      operationCapacity: OPERATION_CAPACITY,
      requests: REQUESTS,
      requestCapacity: REQUEST_CAPACITY,
      outgoing: this.outgoing,
      events: this.events,
    });
    this.ring.setFile(this.descriptor, { writable });
  }

  attachGuestBuffers(): void {
    this.ring.setGuestBuffers({ buffer: this.guest, stride: GUEST_STRIDE, lengths: this.lengths });
  }

  /** Address of the Request record of a slot. */
  requestAddress(slot: number): number {
    return REQUESTS + slot * 64;
  }

  writeOperation(index: number, fields: OperationFields): void {
    const view = new OperationView(this.memory, OPERATIONS + index * 64);
    view.kind = fields.kind;
    view.space = fields.space ?? BufferSpace.Module;
    view.request = fields.request ?? 0;
    view.length = fields.length ?? 0;
    view.hostOffsetBig = BigInt(fields.hostOffset ?? 0);
    view.bufferOffset = fields.bufferOffset ?? 0;
    view.zeroBefore = fields.zeroBefore ?? 0;
    view.zeroAfter = fields.zeroAfter ?? 0;
    view.edges = fields.edges ?? 0;
    view.sourceOffset = fields.sourceOffset ?? 0;
    view.file = fields.file ?? 0;
  }

  /** Carries out outgoing entries and returns the events of one turn. */
  turn(entries: readonly (readonly [OutgoingType, number, number?, number?])[], mode: TurnMode): RingEvent[] {
    for (const [index, [type, a, b = 0, c = 0]] of entries.entries()) {
      this.outgoing.set([type, a, b, c], (1 + index) * QUAD);
    }
    this.outgoing.set([entries.length, mode]);
    this.ring.turn();
    if (mode === TurnMode.Apply) return [];
    return Array.from({ length: this.events[0] }, (_, index) => {
      const [type, a, b, c] = this.events.subarray((1 + index) * QUAD, (2 + index) * QUAD);
      return { type, a, b, c };
    });
  }

  /** Runs operation `index` as its record stands. */
  run(index: number): Outcome {
    let events = this.turn([[OutgoingType.Operation, index]], TurnMode.Wait);
    while (events.length === 0) events = this.turn([], TurnMode.Wait);
    const [event] = events;
    if (events.length !== 1 || event.type !== EventType.Operation || event.a !== index) {
      throw new Error(`unexpected events: ${JSON.stringify(events)}`);
    }
    return { status: event.b as Status, errno: event.c };
  }

  /** Writes a record and runs it. */
  carryOut(fields: OperationFields): Outcome {
    this.writeOperation(0, fields);
    return this.run(0);
  }

  content(): Buffer {
    return readFileSync(this.path);
  }

  [Symbol.dispose](): void {
    this.ring.close();
    closeSync(this.descriptor);
    rmSync(this.folder, { recursive: true });
  }
}

/** Bytes that differ from zero and from each other's neighbours. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => 1 + ((index * 31 + (index >> 8) * 7 + seed * 97) % 255));
}
