/** Internal snapshots in the core's page: how they are named there, and what an answer says of them. */

import { type RequestView, SnapshotOptionsView, SnapshotRecordView } from './abi.js';
import type { CoreInstance } from './core-instance.js';
import { decodeName } from './core-instance.js';
import { CorralError } from './errors.js';

const OPTIONS_SIZE = 32;
const RECORD_SIZE = 72;
const NO_ICOUNT = 2n ** 64n - 1n;

/** A snapshot as its table says. Sizes are bytes. */
export interface Snapshot {
  readonly id: string;
  readonly name: string;
  /** As they are in the image: any bytes. */
  readonly idBytes: Uint8Array;
  readonly nameBytes: Uint8Array;
  /** When it was made. */
  readonly date: Date;
  /** Nanoseconds of that second. */
  readonly nanoseconds: number;
  /** Of the virtual disk then. */
  readonly diskSize: number;
  /** Of the guest's saved state; 0 when only the disk was saved. */
  readonly vmStateSize: number;
  /** Nanoseconds that the guest had run. */
  readonly vmClock: bigint;
  /** Instructions that the guest had carried out; undefined when nobody counted. */
  readonly icount: bigint | undefined;
}

/** Which snapshot is meant: the first one that has everything that is given. Text stands for its UTF-8 bytes. */
export interface SnapshotSelection {
  readonly id?: string | Uint8Array;
  readonly name?: string | Uint8Array;
}

/** What a new snapshot is to say. */
export interface NewSnapshot extends SnapshotSelection {
  readonly date?: Date;
  /** Nanoseconds of that second; by default those of `date`. */
  readonly nanoseconds?: number;
  readonly vmClock?: bigint;
  readonly icount?: bigint;
}

/** Fills the page for a request that names a snapshot. */
export function writeSelection(core: CoreInstance, { id, name }: SnapshotSelection): void {
  writeSnapshotOptions(core, { id, name, date: new Date(0) });
}

/** Fills the page for a request that makes one. */
export function writeSnapshotOptions(core: CoreInstance, snapshot: NewSnapshot): void {
  const { date = new Date(), vmClock = 0n, icount = NO_ICOUNT } = snapshot;
  const id = toBytes(snapshot.id);
  const name = toBytes(snapshot.name);
  const { page } = core.layout;
  // The core judges the lengths; what would not fit the page is refused here.
  if (id.length + name.length > 32768) {
    throw new CorralError('ERR_TOO_LARGE', { reason: 'Name of the snapshot is too long' });
  }
  const view = new SnapshotOptionsView(core.memory, page);
  const milliseconds = date.getTime();
  view.idLength = id.length;
  view.nameLength = name.length;
  view.seconds = Math.floor(milliseconds / 1000);
  view.nanoseconds = snapshot.nanoseconds ?? (milliseconds - Math.floor(milliseconds / 1000) * 1000) * 1e6;
  view.vmClockBig = vmClock;
  view.icountBig = icount;
  core.bytes(page + OPTIONS_SIZE, id.length).set(id);
  core.bytes(page + OPTIONS_SIZE + id.length, name.length).set(name);
}

/** What a SnapshotList request has put into the page; while it finishes. */
export function readSnapshots(core: CoreInstance, { result }: RequestView): Snapshot[] {
  const view = new SnapshotRecordView(core.memory);
  const snapshots: Snapshot[] = [];
  let address = core.layout.page;
  for (let index = 0; index < result; index++) {
    view.at(address);
    const idBytes = core.bytes(address + RECORD_SIZE, view.idLength).slice();
    const nameBytes = core.bytes(address + RECORD_SIZE + view.idLength, view.nameLength).slice();
    const icount = view.icountBig;
    snapshots.push({
      id: decodeName(idBytes),
      name: decodeName(nameBytes),
      idBytes,
      nameBytes,
      date: new Date(view.seconds * 1000 + Math.floor(view.nanoseconds / 1e6)),
      nanoseconds: view.nanoseconds,
      diskSize: Number(view.diskSizeBig),
      vmStateSize: Number(view.vmStateSizeBig),
      vmClock: view.vmClockBig,
      icount: icount === NO_ICOUNT ? undefined : icount,
    });
    address += view.recordLength;
  }
  return snapshots;
}

function toBytes(text: string | Uint8Array | undefined): Uint8Array {
  return typeof text === 'string' ? new TextEncoder().encode(text) : (text ?? new Uint8Array(0));
}
