/**
 * What the guest must find. For every cell: the last write that is known to have reached the disk, and the writes since
 * then in the order of their submission, which is the order that the engine promises for requests that overlap.
 */

import { BitmapLedger } from './bitmap-ledger.js';
import { BACKING, type Cells } from './pattern.js';
import { SimulationFailure } from './trace.js';

/** A guest write, from its submission on. */
export interface GuestWrite {
  readonly id: number;
  /** What its cells hold afterwards: its number, or 0 when it makes zeros. */
  readonly value: number;
  /** They hold what lies behind the image instead. */
  readonly uncovers?: true;
  /** What they may hold as long as it has not come to its end. */
  readonly meanwhile?: number;
  readonly firstCell: number;
  readonly endCell: number;
  /** Instead of all cells in between, when they are many. */
  readonly only?: readonly number[];
  readonly submittedAt: number;
  /** Infinity while it is in flight. */
  completedAt: number;
  /** False when it failed: nobody knows which of its bytes are there. */
  succeeded: boolean;
}

/** A request that changes snapshots, from its submission until it is known what it did. */
export interface SnapshotChange {
  readonly verb: 'create' | 'delete' | 'apply';
  /** Id of the snapshot. */
  readonly number: number;
  /** Apply: what the disk's size becomes. */
  readonly size?: number;
  readonly submittedAt: number;
}

export class Model {
  /** It may have happened, or not: a power cut shows. */
  pending: SnapshotChange | undefined;
  /** Such a change has not come to its end: COPIED flags may be wrong, but only where nothing is shared. */
  flagsUncertain = false;
  /** Counts submissions and completions of requests. */
  clock = 0;
  private nextId = 1;
  /** What is on the disk for certain; cells that are missing are what lies behind the image. */
  private readonly base = new Map<number, number>();
  /** Later writes, for the cells that have any. */
  private readonly recent = new Map<number, GuestWrite[]>();

  /** What is known of the persistent bitmaps. */
  readonly bitmaps = new BitmapLedger();
  /** What internal snapshots hold, by their number: as `base` was when each was made. */
  readonly snapshots = new Map<number, ReadonlyMap<number, number>>();

  /** @param backingLength bytes of the backing file; 0 when there is none */
  constructor(
    readonly cells: Cells,
    private readonly backingLength = 0,
  ) {}

  private valueOf(write: GuestWrite, cell: number): number {
    return write.uncovers ? this.background(cell) : write.value;
  }

  /** What a cell holds that nobody wrote. */
  background(cell: number): number {
    return this.backingLength > 0 && this.cells.offsetOf(cell) < this.backingLength ? BACKING : 0;
  }

  /** Somebody makes an internal snapshot of what is on the disk, which nobody is using. */
  takeSnapshot(number: number): void {
    this.snapshots.set(number, new Map(this.base));
  }

  /** Cells that may hold something else than what lies behind the image; some of them come twice. */
  *touched(): Iterable<number> {
    yield* [...this.base.keys()];
    yield* [...this.recent.keys()];
  }

  submitWrite(firstCell: number, endCell: number, zeros: boolean): GuestWrite {
    const id = this.nextId++;
    return this.submit({ id, value: zeros ? 0 : id }, firstCell, endCell);
  }

  /** What lies behind the image shows again. */
  submitUncover(firstCell: number, endCell: number): GuestWrite {
    return this.submit({ id: this.nextId++, value: 0, uncovers: true }, firstCell, endCell);
  }

  private submit(what: Pick<GuestWrite, 'id' | 'value' | 'uncovers'>, firstCell: number, endCell: number): GuestWrite {
    const write: GuestWrite = {
      ...what,
      firstCell,
      endCell,
      submittedAt: this.clock++,
      completedAt: Number.POSITIVE_INFINITY,
      succeeded: false,
    };
    for (let cell = firstCell; cell < endCell; cell++) {
      const writes = this.recent.get(cell);
      if (writes === undefined) this.recent.set(cell, [write]);
      else writes.push(write);
    }
    return write;
  }

  /** The disk ends at `firstCell` soon: what lies behind it is zeros, if it is anywhere, or the backing file's. */
  submitCut(firstCell: number): GuestWrite {
    const only = [...new Set(this.touched())].filter((cell) => cell >= firstCell);
    const write: GuestWrite = {
      id: this.nextId++,
      value: 0,
      ...(this.backingLength > 0 ? { meanwhile: BACKING } : {}),
      firstCell,
      endCell: Number.POSITIVE_INFINITY,
      only,
      submittedAt: this.clock++,
      completedAt: Number.POSITIVE_INFINITY,
      succeeded: false,
    };
    for (const cell of only) this.recent.set(cell, [...(this.recent.get(cell) ?? []), write]);
    return write;
  }

  /** The disk became longer: where it ended there are zeros, whatever lies behind the image. */
  extend(firstCell: number, endCell: number): void {
    for (let cell = firstCell; cell < endCell && this.background(cell) !== 0; cell++) this.store(cell, 0);
  }

  /** The disk has `size` bytes: nobody can find again what lies beyond. */
  cutOff(size: number): void {
    for (const cell of [...this.touched()]) if (this.cells.offsetOf(cell) >= size) this.decide(cell, 0);
  }

  /** @param durable it was answered as being on the disk for good */
  completeWrite(write: GuestWrite, succeeded: boolean, durable: boolean): void {
    write.completedAt = this.clock++;
    write.succeeded = succeeded;
    if (!succeeded || !durable) return;
    for (const cell of cellsOf(write)) this.settle(cell, (other) => other === write);
  }

  /** A flush ended that was submitted at `submittedAt`: whatever was answered before is on the disk. */
  completeFlush(submittedAt: number): void {
    for (const cell of [...this.recent.keys()]) {
      this.settle(cell, (write) => write.succeeded && write.completedAt < submittedAt);
    }
  }

  /** Judges what a read found; `submittedAt` is when it was asked. */
  checkRead(cell: number, found: number, submittedAt: number): void {
    const writes = this.recent.get(cell);
    if (writes === undefined) {
      const expected = this.onDisk(cell);
      if (found !== expected) throw this.mismatch('read', cell, found, [expected]);
      return;
    }
    const allowed = [this.onDisk(cell)];
    for (const write of writes) {
      if (write.completedAt === Number.POSITIVE_INFINITY) {
        if (write.submittedAt > submittedAt) continue;
        throw new SimulationFailure(`a read of ${this.describe(cell)} overtook write ${write.id}, submitted earlier`);
      }
      if (write.succeeded) allowed.length = 0;
      allowed.push(this.valueOf(write, cell));
      if (!write.succeeded && write.meanwhile !== undefined) allowed.push(write.meanwhile);
    }
    if (!allowed.includes(found)) throw this.mismatch('read', cell, found, allowed);
  }

  /** Judges what lies on a disk that lost power. */
  checkSurvivor(cell: number, found: number): void {
    const base = this.onDisk(cell);
    if (found === base) return;
    const writes = this.recent.get(cell) ?? [];
    if (writes.some((write) => this.valueOf(write, cell) === found || write.meanwhile === found)) return;
    const allowed = [base, ...writes.map((write) => this.valueOf(write, cell))];
    throw this.mismatch('after the power cut', cell, found, allowed);
  }

  /** From here on the cell holds this: a power cut has decided, or the image was changed from outside. */
  decide(cell: number, id: number): void {
    this.recent.delete(cell);
    this.store(cell, id);
  }

  /** Judges what a cell of snapshot `number` holds. */
  checkSnapshot(number: number, cell: number, found: number): void {
    const expected = this.snapshots.get(number)?.get(cell) ?? this.background(cell);
    if (found !== expected) throw this.mismatch(`snapshot ${number}`, cell, found, [expected]);
  }

  /** Judges what a cell held when a snapshot was asked for at `submittedAt`: every request before that had ended. */
  checkCaptured(cell: number, found: number, submittedAt: number): void {
    const allowed = [this.onDisk(cell)];
    for (const write of this.recent.get(cell) ?? []) {
      if (write.submittedAt > submittedAt) continue;
      if (write.succeeded) allowed.length = 0;
      allowed.push(this.valueOf(write, cell));
      if (!write.succeeded && write.meanwhile !== undefined) allowed.push(write.meanwhile);
    }
    if (!allowed.includes(found)) throw this.mismatch('in a new snapshot', cell, found, allowed);
  }

  /** The disk has become what snapshot `number` holds; requests later than `submittedAt` come after that. */
  applySnapshot({ number, submittedAt }: SnapshotChange): void {
    for (const [cell, writes] of [...this.recent]) {
      const later = writes.filter((write) => write.submittedAt > submittedAt);
      if (later.length === 0) this.recent.delete(cell);
      else this.recent.set(cell, later);
    }
    this.base.clear();
    for (const [cell, id] of this.snapshots.get(number) ?? []) this.store(cell, id);
  }

  /** Cells of a range of guest offsets that somebody wrote and nobody is writing, and what they hold. */
  certainCells(offset: number, end: number): Map<number, number> {
    const certain = new Map<number, number>();
    for (const [cell, id] of this.base) {
      const place = this.cells.offsetOf(cell);
      if (place >= offset && place < end && !this.recent.has(cell)) certain.set(cell, id);
    }
    return certain;
  }

  /** What a cell holds for certain: all that there is to say when nobody uses the image. */
  onDisk(cell: number): number {
    return this.base.get(cell) ?? this.background(cell);
  }

  private store(cell: number, id: number): void {
    if (id === this.background(cell)) this.base.delete(cell);
    else this.base.set(cell, id);
  }

  /** Forgets what came before the last write that `isOnDisk`. */
  private settle(cell: number, isOnDisk: (write: GuestWrite) => boolean): void {
    const writes = this.recent.get(cell) as GuestWrite[] | undefined;
    if (writes === undefined) return;
    for (let index = writes.length - 1; index >= 0; index--) {
      const write = writes[index] as GuestWrite;
      if (!isOnDisk(write)) continue;
      this.store(cell, this.valueOf(write, cell));
      if (index === writes.length - 1) this.recent.delete(cell);
      else writes.splice(0, index + 1);
      return;
    }
  }

  private mismatch(when: string, cell: number, found: number, allowed: number[]): SimulationFailure {
    const name = (id: number) => (id === 0 ? 'zeros' : id < 0 ? 'a mixture or stale bytes' : `write ${id}`);
    return new SimulationFailure(
      `${when}: ${this.describe(cell)} holds ${name(found)}, allowed is ${allowed.map(name).join(' or ')}`,
    );
  }

  private describe(cell: number): string {
    return `the cell at guest offset ${this.cells.offsetOf(cell)}`;
  }
}

function* cellsOf({ firstCell, endCell, only }: GuestWrite): Iterable<number> {
  if (only !== undefined) yield* only;
  else for (let cell = firstCell; cell < endCell; cell++) yield cell;
}
