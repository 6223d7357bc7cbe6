/** What the guest's administrator asks while the guest works: each function sends one request and says what is known of it. */

import {
  AMEND_NAMES_OFFSET,
  AmendOptionsView,
  PreallocateOptionsView,
  ResizeFlag,
  ResizeOptionsView,
  Status,
} from '../../host/abi.js';
import { drawBitmapCall, sendBitmapCall } from './bitmap-calls.js';
import type { Engine } from './engine.js';
import { SECTOR } from './pattern.js';
import { CALLS, type Sent, type World } from './sent.js';
import { sendSnapshotRequest } from './snapshot-requests.js';
import { SimulationFailure } from './trace.js';
import { drawAmend, drawPreallocation, drawSize, type Verb } from './workload.js';

/** Who asks: nothing that was sent after `healed` may fail for the disk's sake. */
export interface Administrator {
  readonly world: World;
  readonly engine: Engine;
  readonly healed: boolean;
}

/** Sends one request into a slot. */
export type ControlRequest = (administrator: Administrator, slot: number) => Sent;

/** Bytes of a file whose refcounts of 64 bits, and the table of their blocks, are not too large for the format. */
const LONGEST_COUNTED = 2 ** 32;
const encoder = new TextEncoder();

/** A snapshot is made, applied or deleted. */
export function sendSnapshot({ world, engine, healed }: Administrator, slot: number): Sent {
  const { trace, disk, model } = world;
  const snapshot = sendSnapshotRequest(world, engine, slot);
  trace.note(() => `slot ${slot}: ${snapshot.verb} snapshot ${snapshot.number}`);
  // Bitmaps say what was written, and this would write everything.
  const refused = snapshot.verb === 'apply' && model.bitmaps.any;
  return {
    ...begin('snapshot', snapshot.submittedAt),
    snapshot,
    mustSucceed: healed && !disk.fatal && disk.regular && !refused,
    mustFail: disk.flushFailed && !refused,
    ...(snapshot.size === undefined ? {} : { size: snapshot.size }),
  };
}

/** The disk becomes longer or shorter. */
export function sendResize({ world, engine, healed }: Administrator, slot: number): Sent {
  const { random, scenario, model, disk, trace, size: before } = world;
  const size = drawSize(random, scenario, before);
  const spoilt = model.bitmaps.spoilt === 'certainly';
  model.bitmaps.beginResize(size);
  const cell = (size / SECTOR) * model.cells.perSector;
  model.extend((before / SECTOR) * model.cells.perSector, cell);
  const write = size < before ? model.submitCut(cell) : undefined;
  const submittedAt = model.clock++;
  const options = new ResizeOptionsView(engine.core.memory, engine.core.layout.page);
  options.virtualSize = size;
  options.flags = ResizeFlag.Shrink | (scenario.backingLength > 0 ? ResizeFlag.ZeroNew : 0);
  trace.note(() => `slot ${slot}: resize from ${before} to ${size}`);
  engine.submit(slot, CALLS.resize.kind, CALLS.resize.flags, 0, 0);
  return {
    ...begin('resize', submittedAt),
    write,
    mustSucceed: healed && !disk.fatal && disk.regular && !spoilt,
    size,
  };
}

/** A property of the image changes; what the disk holds does not. */
export function sendAmend({ world, engine, healed }: Administrator, slot: number): Sent {
  const { random, scenario, model, disk, trace } = world;
  const { core } = engine;
  const {
    kind,
    value,
    backingFile,
    dataFile = '',
  } = drawAmend(random, scenario, core.info.version, core.info.refcountOrder);
  const options = new AmendOptionsView(core.memory, core.layout.page);
  options.kind = kind;
  options.value = value;
  const format = backingFile === undefined ? '' : 'raw';
  const names = [backingFile ?? '', format, dataFile].map((name) => encoder.encode(name));
  options.backingFileLength = names[0]?.length ?? 0;
  options.backingFormatLength = names[1]?.length ?? 0;
  options.dataFileLength = names[2]?.length ?? 0;
  let at = core.layout.page + AMEND_NAMES_OFFSET;
  for (const name of names) {
    core.bytes(at, name.length).set(name);
    at += name.length;
  }
  trace.note(() => `slot ${slot}: amend ${kind} to ${value}`);
  engine.submit(slot, CALLS.amend.kind, CALLS.amend.flags, 0, 0);
  return {
    ...begin('amend', model.clock++),
    mustSucceed: healed && !disk.fatal && disk.regular,
    ...(backingFile === undefined ? {} : { backingFile }),
  };
}

/** Clusters ahead of any write; what the disk holds stays as it is. */
export function sendPreallocate({ world, engine, healed }: Administrator, slot: number): Sent {
  const { random, scenario, model, disk, trace, size } = world;
  const { mode, offset, length } = drawPreallocation(random, scenario, size);
  const options = new PreallocateOptionsView(engine.core.memory, engine.core.layout.page);
  options.mode = mode;
  trace.note(() => `slot ${slot}: preallocate ${mode} at ${offset}, ${length} bytes`);
  engine.submit(slot, CALLS.preallocate.kind, CALLS.preallocate.flags, offset, length);
  return { ...begin('preallocate', model.clock++), mustSucceed: healed && !disk.fatal && disk.regular };
}

/** A bitmap is made, changed or removed. */
export function sendCall({ world, engine, healed }: Administrator, slot: number): Sent {
  const { random, model, disk, trace, size } = world;
  const call = drawBitmapCall(random, size);
  const submittedAt = model.clock++;
  const refusal = model.bitmaps.refusal(call);
  model.bitmaps.begin(call, submittedAt);
  trace.note(() => `slot ${slot}: ${call.verb} bitmap ${call.name.slice(0, 8)} ${call.source} ${call.granularity}`);
  sendBitmapCall(engine, slot, call);
  return {
    ...begin('bitmap', submittedAt),
    mustSucceed: healed && !disk.fatal && disk.regular && refusal === undefined,
    call,
    refusal: refusal === undefined ? undefined : Status[refusal],
  };
}

/**
 * Nothing has changed, as something is in the way: refcounts of fewer bits cannot count what is shared, the first
 * cluster has no room for a name, version 2 has no place for sizes of snapshots nor zeros over a backing file.
 */
export function isRefused({ world, engine }: Administrator, { request }: Sent, status: Status): boolean {
  const { scenario, model, disk } = world;
  const { info } = engine.core;
  const shares = model.snapshots.size > 0 || scenario.compressedWrites || scenario.compresses > 0;
  if (status === Status.Unsupported && request.verb === 'resize') return info.version === 2 && shares;
  if (request.verb === 'resize' && isSpoilt(world, status)) return true;
  if (request.verb !== 'amend') return false;
  if (status === Status.TooLarge) return shares || scenario.clusterBits === 9 || disk.length > LONGEST_COUNTED;
  return status === Status.Unsupported && (model.snapshots.size > 0 || scenario.backingLength > 0);
}

/** A bitmap that cannot be used keeps the disk from another size. */
function isSpoilt({ model }: World, status: Status): boolean {
  const { spoilt } = model.bitmaps;
  if (status === Status.Ok && spoilt === 'certainly') {
    throw new SimulationFailure('a disk with an inconsistent bitmap got another size');
  }
  return status === Status.Invalid && spoilt !== undefined;
}

function begin(verb: Verb, submittedAt: number): Sent {
  const request = { verb, firstCell: 0, endCell: 0 };
  return { request, write: undefined, submittedAt, mustSucceed: false, mustFail: false, cancelled: false };
}
