/** One instance of the core at work on the simulated disk: buffers, operations, answers. */

import {
  BufferSpace,
  OperationFile,
  OperationKind,
  type OperationView,
  RequestKind,
  SCRATCH_COUNT,
  Status,
} from '../../host/abi.js';
import { CoreInstance } from '../../host/core-instance.js';
import { DATA_FILE_START } from './data-file.js';
import { compressGuest, decompressCells } from './fake-codec.js';
import { BACKING, fillPattern, makePatternMemory, type PatternMemory, SECTOR } from './pattern.js';
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

/** What a scratch buffer holds before it is used. */
const UNTOUCHED = 0x77;
/** So little that most checks need several rounds. */
const CHECK_SIZE = 4096;
const WITHOUT_BUFFER: readonly number[] = [
  OperationKind.Flush,
  OperationKind.WriteZeroes,
  OperationKind.Discard,
  OperationKind.Truncate,
];

/** Buffers of requests, for every engine that ever runs: they are filled anew before each use. */
const buffers: PatternMemory[] = [];

/** Takes its time, and may fail. */
const NOTHING = { kind: OperationKind.Read, offset: 0, length: 0, buffer: new Uint8Array(0) };

interface Slot {
  readonly memory: PatternMemory;
  /** Where the request's buffer begins in `memory`. */
  start: number;
  /** Guest offset of its first byte. */
  offset: number;
  length: number;
  busy: boolean;
}

export class Engine {
  readonly core: CoreInstance;
  private readonly slots: Slot[] = [];
  private answers: Answer[] = [];
  /** Scratch buffers by number. */
  private readonly scratches: Uint8Array[] = [];
  /** What remains to be done when an operation of the disk has ended; the core is told how that went. */
  private readonly afterwards = new Map<number, () => Status>();

  constructor(
    module: WebAssembly.Module,
    private readonly scenario: Scenario,
    private readonly disk: SimulatedDisk,
    private readonly trace: Trace,
    checkSize = CHECK_SIZE,
  ) {
    const { requestCapacity } = scenario;
    for (let slot = 0; slot < requestCapacity; slot++) {
      buffers[slot] ??= makePatternMemory(LONGEST_REQUEST + 1024);
      this.slots.push({ memory: buffers[slot] as PatternMemory, start: 0, offset: 0, length: 0, busy: false });
    }
    const configuration = {
      requestCapacity,
      cacheSize: 0,
      checkSize,
      fileLength: disk.length,
      zeroBeyondEnd: disk.regular,
      decompresses: true,
      scratch: true,
      compresses: true,
      backing: scenario.backingLength > 0,
      // After a crash the refcounts have to be counted anew, and that needs room, which a device may not have.
      keepDiscarded: scenario.keepsDiscarded,
      passDiscard: scenario.passDiscard,
      lazyRefcounts: scenario.regular ? undefined : false,
      ...(scenario.dataFile === 'none' ? {} : { dataFileLength: dataFileLength(scenario, disk) }),
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
    record.offset = offset;
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
    const after = this.afterwards.get(index);
    this.afterwards.delete(index);
    const outcome = status === Status.Ok && after !== undefined ? after() : status;
    this.trace.event('complete', index, outcome);
    this.guard(() => this.core.complete(index, outcome));
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
    const { kind, space, hostOffset, length, zeroBefore, zeroAfter } = view;
    const moves = kind === OperationKind.Read || kind === OperationKind.Write;
    const total = zeroBefore + length + zeroAfter;
    this.trace.event(OPERATION_NAMES[kind] as string, index, hostOffset, total);
    const common = { index, table: space === BufferSpace.Module, zeroBefore };
    if (kind === OperationKind.Decompress) return { ...common, ...this.startDecompress(view, index) };
    if (kind === OperationKind.ReadBacking) return { ...common, ...this.startBacking(view, index) };
    if (kind === OperationKind.Compress) return { ...common, ...this.startCompress(view, index) };
    if (!moves && !WITHOUT_BUFFER.includes(kind)) {
      throw new SimulationFailure(`operation ${OPERATION_NAMES[kind]} is not simulated yet`);
    }
    const buffer = moves ? this.bufferOf(view, length) : new Uint8Array(0);
    const ofData = view.file === OperationFile.Data;
    if (!ofData && hostOffset + total > DATA_FILE_START) {
      throw new SimulationFailure(`the image reaches to ${hostOffset + total}, into the simulated data file`);
    }
    const offset = ofData ? DATA_FILE_START + hostOffset : hostOffset;
    return {
      ...common,
      kind: kind as OperationKind,
      offset,
      length: total,
      buffer,
      edges: moves ? this.edgesOf(view) : undefined,
    };
  }

  /** A read of the compressed bytes, which become the wanted ones when it has ended. */
  private startDecompress(view: OperationView, index: number): Omit<DiskOperation, 'index' | 'table' | 'zeroBefore'> {
    const { hostOffset, sourceLength, sourceOffset, length } = view;
    const buffer = new Uint8Array(sourceLength);
    const target = this.bufferOf(view, length);
    const { clusterBits, cells } = this.scenario;
    this.afterwards.set(index, () => {
      const cluster = decompressCells(buffer, 2 ** clusterBits, cells);
      if (cluster !== undefined) target.set(cluster.subarray(sourceOffset, sourceOffset + length));
      return cluster === undefined ? Status.Corrupt : Status.Ok;
    });
    return { kind: OperationKind.Read, offset: hostOffset, length: sourceLength, buffer };
  }

  /** The guest's bytes become a list of the writes that they come from; now and then that is no use. */
  private startCompress(view: OperationView, index: number): Omit<DiskOperation, 'index' | 'table' | 'zeroBefore'> {
    const { request, bufferOffset, length, edges } = view;
    this.afterwards.set(index, () => {
      const { memory, start, offset } = this.slotAt(request);
      const { clusterBits, cells } = this.scenario;
      const bytes = compressGuest(memory, start + bufferOffset, offset + bufferOffset, length, 2 ** clusterBits, cells);
      const target = this.scratchBytes(edges - 1, 0, 2 ** clusterBits);
      if (bytes !== undefined) {
        target.fill(0, 0, Math.ceil(bytes.length / SECTOR) * SECTOR);
        target.set(bytes);
      }
      this.core.operation(index).sourceLength = bytes?.length ?? 0;
      return Status.Ok;
    });
    return NOTHING;
  }

  /** A read of nothing: it takes its time and may fail, but this disk has no part in it. */
  private startBacking(view: OperationView, index: number): Omit<DiskOperation, 'index' | 'table' | 'zeroBefore'> {
    const { hostOffset, length, zeroAfter } = view;
    const target = this.bufferOf(view, length + zeroAfter);
    const inside = Math.max(0, Math.min(length, this.scenario.backingLength - hostOffset));
    this.afterwards.set(index, () => {
      const memory = makePatternMemory(inside + 16);
      const start = hostOffset % 8;
      fillPattern(memory, start, hostOffset, inside, BACKING);
      target.set(memory.bytes.subarray(start, start + inside));
      target.fill(0, inside);
      return Status.Ok;
    });
    return NOTHING;
  }

  private bufferOf({ space, request, bufferOffset }: OperationView, length: number): Uint8Array {
    if (space === BufferSpace.Guest) return this.guestBytes(request, bufferOffset, length);
    if (space === BufferSpace.Module) return this.core.bytes(bufferOffset, length);
    return this.scratchBytes(request, bufferOffset, length);
  }

  private edgesOf({ edges, sourceOffset, zeroBefore, zeroAfter }: OperationView): DiskOperation['edges'] {
    if (edges === 0) return undefined;
    const end = 2 * 2 ** this.scenario.clusterBits;
    const head = this.scratchBytes(edges - 1, sourceOffset, zeroBefore);
    return { head, tail: this.scratchBytes(edges - 1, end - zeroAfter, zeroAfter) };
  }

  private scratchBytes(number: number, offset: number, length: number): Uint8Array {
    if (number >= SCRATCH_COUNT) throw new SimulationFailure(`there is no scratch buffer ${number}`);
    const size = 2 * 2 ** this.scenario.clusterBits;
    if (offset + length > size) throw new SimulationFailure(`scratch buffer ${number} is too short`);
    this.scratches[number] ??= new Uint8Array(size).fill(UNTOUCHED);
    return this.scratches[number].subarray(offset, offset + length);
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

/** At least as long as the disk, as a raw one always is; it is zeros where nobody wrote. */
function dataFileLength({ virtualSize }: Scenario, disk: SimulatedDisk): number {
  return Math.max(disk.dataFileLength, virtualSize);
}

/** Member names of an enum by value. */
function namesOf(members: Readonly<Record<string, number>>): readonly string[] {
  const names: string[] = [];
  for (const [name, value] of Object.entries(members)) names[value] = name;
  return names;
}
