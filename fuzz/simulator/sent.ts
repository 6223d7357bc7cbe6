/** What all lives of a seed share, and what is known of a request that was sent. */

import { RequestFlag, RequestKind, type Status } from '../../host/abi.js';
import type { BitmapCall } from './bitmap-calls.js';
import type { Change } from './bitmap-ledger.js';
import type { GuestWrite, Model, SnapshotChange } from './model.js';
import type { Random } from './random.js';
import type { Scenario } from './scenario.js';
import type { SimulatedDisk } from './simulated-disk.js';
import type { Trace } from './trace.js';
import type { GuestRequest, Verb } from './workload.js';

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

/** What changes nothing and has an answer: a map, or a list of snapshots. */
export interface Question {
  readonly kind: RequestKind;
  readonly offset: number;
  readonly length: number;
  /** Map: cells of the range whose value was certain when it was asked. */
  readonly cells: ReadonlyMap<number, number>;
}

/** A request from its submission to its answer. */
export interface Sent {
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
  /** What changes nothing, and has an answer. */
  readonly question?: Question;
  cancelled: boolean;
}

/** How each verb is asked for; snapshots, bitmaps and questions have more than one kind. */
export const CALLS: Readonly<Record<Verb, { kind: RequestKind; flags: number }>> = {
  read: { kind: RequestKind.Read, flags: 0 },
  write: { kind: RequestKind.Write, flags: 0 },
  'durable write': { kind: RequestKind.Write, flags: RequestFlag.Durable },
  'compressed write': { kind: RequestKind.Write, flags: RequestFlag.Compressed },
  'write zeroes': { kind: RequestKind.WriteZeroes, flags: 0 },
  unmap: { kind: RequestKind.WriteZeroes, flags: RequestFlag.Unmap },
  discard: { kind: RequestKind.Discard, flags: 0 },
  uncover: { kind: RequestKind.Discard, flags: RequestFlag.Unmap },
  flush: { kind: RequestKind.Flush, flags: 0 },
  resize: { kind: RequestKind.Resize, flags: RequestFlag.Unmap },
  amend: { kind: RequestKind.Amend, flags: 0 },
  snapshot: { kind: RequestKind.SnapshotCreate, flags: 0 },
  bitmap: { kind: RequestKind.BitmapAdd, flags: 0 },
  preallocate: { kind: RequestKind.Preallocate, flags: 0 },
  question: { kind: RequestKind.Map, flags: 0 },
};
/** They change the image as a whole. */
export const CONTROLS: readonly Verb[] = ['resize', 'amend', 'snapshot', 'bitmap', 'preallocate'];
