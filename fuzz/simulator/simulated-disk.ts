/**
 * A disk with a cache that forgets. What was written is visible at some moment between submission and completion, sector
 * by sector, and survives a power cut for certain only when a flush that was submitted after its completion has ended.
 *
 * Nothing happens by itself: `advance` carries out one piece of one operation, chosen by the seed.
 */

import { OperationKind, Status } from '../../host/abi.js';
import { DATA_FILE_START, imageEnd } from './data-file.js';
import { type CutResult, chooseSurvivors, type LoggedWrite } from './power-cut.js';
import type { Random } from './random.js';
import { GARBAGE, SparseBytes, ZEROS } from './sparse-bytes.js';
import { SimulationFailure } from './trace.js';

export const SECTOR = 512;

/** An operation as the core asked for it. */
/** Bytes at the start of the file in which what a failed write has left makes the image unknown. */
const HEADER_LENGTH = 2048;

export interface DiskOperation {
  /** Number of the operation record. */
  readonly index: number;
  readonly kind: OperationKind;
  /** The core's tables rather than guest data: those may be slower or faster. */
  readonly table: boolean;
  readonly offset: number;
  /** Bytes of the file that it touches, zeros around the buffer included. */
  readonly length: number;
  /** The core's or the guest's bytes; a write takes them when it becomes visible, not before. */
  readonly buffer: Uint8Array;
  readonly zeroBefore: number;
  /** What surrounds the buffer's bytes when it is not zeros. */
  readonly edges?: { readonly head: Uint8Array; readonly tail: Uint8Array } | undefined;
}

/** How a disk behaves; drawn once for every life. */
export interface DiskTemper {
  /** Longest time in steps, by kind. */
  readonly readTime: number;
  readonly dataTime: number;
  readonly tableTime: number;
  readonly flushTime: number;
  /** Probability that an operation is carried out in pieces. */
  readonly splits: number;
  /** Probabilities that an operation fails. */
  readonly readErrors: number;
  readonly writeErrors: number;
  readonly flushErrors: number;
  /** No byte can be written from here on. */
  readonly capacity: number;
}

/** Ways to be a bad disk, to prove that the simulator notices. */
export interface Sabotage {
  /** Flushes are answered, but nothing becomes durable. */
  readonly flushDoesNothing?: boolean;
  /** Every second flush is one of those. */
  readonly halfOfTheFlushesDoNothing?: boolean;
  /** Writes are answered before they are visible. */
  readonly answersEarly?: boolean;
}

export interface Completion {
  readonly index: number;
  readonly status: Status;
}

interface Pending {
  readonly operation: DiskOperation;
  /** Pieces that are not visible yet, as [from, to) within the operation. */
  readonly pieces: [number, number][];
  /** Shared by the log entries of its pieces. */
  readonly write: { completedAt: number; unreliable: boolean };
  readonly submittedAt: number;
  readonly fault: Status;
  /** Length of the file when it was submitted: what a flush promises. */
  readonly completedLength: number;
  due: number;
  answered: boolean;
}

export class SimulatedDisk {
  /** Regular file: growth reads as zeros. A device is as long as it is. */
  readonly regular: boolean;
  /** Counts submissions and completions: what came before what. */
  private clock = 0;
  private current: SparseBytes;
  private durable: SparseBytes;
  private durableLength: number;
  /** Length that completed writes have made. */
  private completedLength: number;
  private log: LoggedWrite[] = [];
  private pending: Pending[] = [];
  private flushes = 0;
  private temper: DiskTemper;
  /** Operations that were answered with an error since the last start. */
  faults = 0;
  /** One of them was a flush, or wrote the header: the engine may refuse to go on. */
  fatal = false;
  /** One of them was a flush. */
  flushFailed = false;

  constructor(
    private readonly random: Random,
    regular: boolean,
    public length: number,
    temper: DiskTemper,
    private readonly sabotage: Sabotage = {},
  ) {
    this.regular = regular;
    this.temper = temper;
    this.current = new SparseBytes(regular ? ZEROS : GARBAGE);
    this.durable = new SparseBytes(regular ? ZEROS : GARBAGE);
    this.durableLength = length;
    this.completedLength = length;
  }

  /** Bytes of the external data file, or a few more. */
  get dataFileLength(): number {
    return this.current.endFrom(DATA_FILE_START) - DATA_FILE_START;
  }

  get operationsInFlight(): number {
    return this.pending.length;
  }

  submit(operation: DiskOperation): void {
    const fault = this.chooseFault(operation);
    this.pending.push({
      operation,
      pieces: this.cutInPieces(operation),
      write: { completedAt: Number.POSITIVE_INFINITY, unreliable: false },
      submittedAt: this.clock++,
      fault,
      completedLength: this.completedLength,
      due: this.clock + this.random.below(this.timeOf(operation)),
      answered: false,
    });
  }

  /** Goes on with the operation whose time has come; what ended, if something did. */
  advance(): Completion | undefined {
    const pending = this.nextDue();
    if (pending === undefined) return undefined;
    const last = pending.pieces.length <= 1;
    const early = this.sabotage.answersEarly === true && pending.operation.kind === OperationKind.Write;
    if (early && !pending.answered) return this.answerEarly(pending);
    if (pending.pieces.length > 0) this.carryOut(pending, pending.pieces.shift() as [number, number]);
    // Visible, but not answered yet: others may see it before its owner knows.
    if (!last || this.random.chance(this.temper.splits)) {
      pending.due = this.clock + 1 + this.random.below(this.timeOf(pending.operation));
      this.clock++;
      return undefined;
    }
    this.pending.splice(this.pending.indexOf(pending), 1);
    if (pending.answered) return undefined;
    return this.complete(pending);
  }

  /** What a power cut at this moment may leave; the disk itself goes on. */
  imagineCut(random: Random): CutResult {
    return chooseSurvivors(random, {
      durable: this.durable,
      durableLength: this.durableLength,
      length: this.length,
      log: [...this.log, ...this.unfinishedWrites(random)],
      regular: this.regular,
    });
  }

  /** Loses power: everything in flight is gone, and `survivors` is what the disk holds from now on. */
  restart(survivors: CutResult, temper: DiskTemper): void {
    this.durable = survivors.bytes;
    this.current = survivors.bytes.clone();
    this.length = survivors.length;
    this.durableLength = survivors.length;
    this.completedLength = survivors.length;
    this.log = [];
    this.pending = [];
    this.temper = temper;
    this.faults = 0;
    this.fatal = false;
    this.flushFailed = false;
  }

  /** From here on nothing fails that has not been submitted yet. */
  heal(): void {
    const capacity = this.regular ? Number.POSITIVE_INFINITY : this.length;
    this.temper = { ...this.temper, readErrors: 0, writeErrors: 0, flushErrors: 0, capacity };
  }

  /** Everything as it is visible now, for a process that is killed while the machine goes on. */
  currentState(): CutResult {
    return { bytes: this.current.clone(), length: this.length };
  }

  private nextDue(): Pending | undefined {
    let best: Pending | undefined;
    for (const pending of this.pending) if (best === undefined || pending.due < best.due) best = pending;
    if (best !== undefined && best.due > this.clock) this.clock = best.due;
    return best;
  }

  private complete(pending: Pending): Completion {
    const { operation, fault } = pending;
    const completedAt = this.clock++;
    if (fault !== Status.Ok) {
      this.faults++;
      this.flushFailed ||= operation.kind === OperationKind.Flush;
      const header = operation.table && operation.offset < HEADER_LENGTH;
      this.fatal ||= this.flushFailed || (isWrite(operation.kind) && header);
    }
    if (operation.kind === OperationKind.Truncate && fault === Status.Ok) this.lengthen(operation.offset, pending);
    // What a failed write has left behind is as visible as any other bytes, and the next flush takes it along.
    if (operation.kind === OperationKind.Flush) this.completeFlush(pending);
    else pending.write.completedAt = completedAt;
    if (fault === Status.Ok && isWrite(operation.kind)) {
      this.completedLength = Math.max(this.completedLength, imageEnd(operation.offset, operation.length));
    }
    return { index: operation.index, status: fault };
  }

  /** The engine makes its file longer; what would be cut off is somebody's. */
  private lengthen(length: number, { write }: Pending): void {
    if (length >= DATA_FILE_START) {
      // The data file ends where somebody has written: that is what a power cut can take back.
      const ends = this.dataFileLength + DATA_FILE_START;
      if (length > ends) this.apply({ offset: length - SECTOR, bytes: new Uint8Array(SECTOR), write });
      return;
    }
    if (!this.regular || length < this.length) {
      throw new SimulationFailure(`a file of ${this.length} bytes is cut to ${length}`);
    }
    this.length = length;
    this.completedLength = Math.max(this.completedLength, length);
  }

  private answerEarly(pending: Pending): Completion {
    pending.answered = true;
    pending.write.completedAt = this.clock++;
    pending.due = this.clock + 1 + this.random.below(this.timeOf(pending.operation));
    // The owner may change its buffer now.
    const operation = pending.operation;
    const edges = operation.edges && { head: operation.edges.head.slice(), tail: operation.edges.tail.slice() };
    Object.assign(pending, { operation: { ...operation, buffer: operation.buffer.slice(), edges } });
    return { index: operation.index, status: Status.Ok };
  }

  /** Makes the piece [from, to) of the operation visible, or reads it. */
  private carryOut(pending: Pending, [from, to]: [number, number]): void {
    const { operation, fault } = pending;
    if (operation.kind === OperationKind.Read) {
      const target = operation.buffer.subarray(from, to);
      const inside = Math.max(0, Math.min(target.length, this.lengthAt(operation.offset) - operation.offset - from));
      this.current.read(operation.offset + from, target.subarray(0, inside));
      target.fill(0, inside);
      if (fault !== Status.Ok) target.fill(0x5a);
    } else if (operation.kind === OperationKind.Discard) {
      // What is discarded may stay as it was.
      const end = Math.min(to, this.lengthAt(operation.offset) - operation.offset);
      if (end > from && this.random.chance(0.7)) this.apply(this.loggedPiece(pending, from, end));
    } else if (isWrite(operation.kind)) {
      // A write that fails may have got somewhere.
      if (fault !== Status.Ok && (fault === Status.NoSpace || this.random.chance(0.5))) return;
      this.apply(this.loggedPiece(pending, from, to));
    }
  }

  private loggedPiece({ operation, write }: Pending, from: number, to: number): LoggedWrite {
    const bytes = new Uint8Array(to - from);
    if (operation.kind === OperationKind.Write) {
      const start = Math.max(from, operation.zeroBefore);
      const end = Math.min(to, operation.zeroBefore + operation.buffer.length);
      if (end > start) {
        const source = operation.buffer.subarray(start - operation.zeroBefore, end - operation.zeroBefore);
        bytes.set(source, start - from);
      }
      if (operation.edges !== undefined) {
        setPart(bytes, from, operation.edges.head, 0);
        setPart(bytes, from, operation.edges.tail, operation.length - operation.edges.tail.length);
      }
    }
    return { offset: operation.offset + from, bytes, write };
  }

  private apply(logged: LoggedWrite): void {
    this.current.write(logged.offset, logged.bytes);
    this.length = Math.max(this.length, imageEnd(logged.offset, logged.bytes.length));
    this.log.push(logged);
  }

  /** Where the file ends that has the byte at `offset`. */
  private lengthAt(offset: number): number {
    return offset >= DATA_FILE_START ? Number.POSITIVE_INFINITY : this.length;
  }

  private completeFlush(flush: Pending): void {
    this.flushes++;
    if (this.sabotage.flushDoesNothing === true) return;
    if (this.sabotage.halfOfTheFlushesDoNothing === true && this.flushes % 2 === 0) return;
    const remaining: LoggedWrite[] = [];
    for (const logged of this.log) {
      const covered = logged.write.completedAt < flush.submittedAt;
      if (covered && flush.fault !== Status.Ok) {
        // The error is reported once; what could not be written stays visible and is never tried again.
        if (this.random.chance(0.5)) logged.write.unreliable = true;
        remaining.push(logged);
      } else if (covered && logged.write.unreliable) {
        // Lost, and nobody says so a second time.
      } else if (covered) {
        this.durable.write(logged.offset, logged.bytes);
        this.durableLength = Math.max(this.durableLength, imageEnd(logged.offset, logged.bytes.length));
      } else {
        remaining.push(logged);
      }
    }
    if (flush.fault === Status.Ok) this.durableLength = Math.max(this.durableLength, flush.completedLength);
    this.log = remaining;
  }

  /** Pieces of writes in flight that the power cut catches half way. */
  private unfinishedWrites(random: Random): LoggedWrite[] {
    const logged: LoggedWrite[] = [];
    for (const pending of this.pending) {
      if (!isWrite(pending.operation.kind) || pending.fault === Status.NoSpace) continue;
      for (const [from, to] of pending.pieces) {
        if (random.chance(0.5)) logged.push(this.loggedPiece(pending, from, to));
      }
    }
    return logged;
  }

  private chooseFault(operation: DiskOperation): Status {
    const { kind, offset, length } = operation;
    const end = offset >= DATA_FILE_START ? offset - DATA_FILE_START + length : offset + length;
    const grows = isWrite(kind) && end > this.temper.capacity;
    if (grows) return Status.NoSpace;
    const rate = this.errorRate(operation.kind);
    return rate > 0 && this.random.chance(rate) ? Status.InputOutput : Status.Ok;
  }

  private errorRate(kind: OperationKind): number {
    if (kind === OperationKind.Read) return this.temper.readErrors;
    return kind === OperationKind.Flush ? this.temper.flushErrors : this.temper.writeErrors;
  }

  /** One piece, or two or three that end at sectors, in any order. */
  private cutInPieces({ kind, offset, length }: DiskOperation): [number, number][] {
    if (length === 0) return [];
    const sectors = Math.floor((offset + length - 1) / SECTOR) - Math.floor(offset / SECTOR);
    if (sectors === 0 || kind === OperationKind.Flush || !this.random.chance(this.temper.splits)) return [[0, length]];
    const boundary = () => (Math.floor(offset / SECTOR) + 1 + this.random.below(sectors)) * SECTOR - offset;
    const cuts = [0, boundary(), boundary(), length].sort((one, other) => one - other);
    const pieces: [number, number][] = [];
    for (let index = 0; index < 3; index++) {
      const piece: [number, number] = [cuts[index] as number, cuts[index + 1] as number];
      if (piece[1] > piece[0]) pieces.splice(this.random.below(pieces.length + 1), 0, piece);
    }
    return pieces;
  }

  private timeOf({ kind, table }: DiskOperation): number {
    if (kind === OperationKind.Read) return this.temper.readTime;
    if (kind === OperationKind.Flush) return this.temper.flushTime;
    return table ? this.temper.tableTime : this.temper.dataTime;
  }
}

/** Puts those of the bytes at `at` into `target`, which begins at `from`, that lie in it. */
function setPart(target: Uint8Array, from: number, bytes: Uint8Array, at: number): void {
  const start = Math.max(from, at);
  const end = Math.min(from + target.length, at + bytes.length);
  if (end > start) target.set(bytes.subarray(start - at, end - at), start - from);
}

function isWrite(kind: OperationKind): boolean {
  return kind === OperationKind.Write || kind === OperationKind.WriteZeroes;
}
