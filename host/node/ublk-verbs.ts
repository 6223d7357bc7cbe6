/** What can be done with the image of a device while it serves: on its serving thread, beside the guest's requests. */
import { RequestKind } from '../abi.js';
import { CorralError } from '../errors.js';
import type { ImageFacts } from '../image-facts.js';
import { resizeRequest } from '../resize.js';
import {
  type NewSnapshot,
  readSnapshots,
  type Snapshot,
  type SnapshotSelection,
  writeSelection,
  writeSnapshotOptions,
} from '../snapshot-record.js';
import { uncoverRequests } from '../uncover.js';
import type { RawRing } from './raw-ring.js';
import type { RingEngine } from './ring-engine.js';
import { type BitmapChange, bitmapsOf, changeBitmap } from './ublk-bitmaps.js';

export type UblkVerb =
  | { name: 'snapshotList' }
  | { name: 'snapshotCreate'; snapshot: NewSnapshot }
  /** A text is an id, or a name when no snapshot has that id. */
  | { name: 'snapshotDelete'; snapshot: string | SnapshotSelection }
  /** Only longer; the device's requests may reach as far as `deviceSize` from then on. */
  | { name: 'resize'; size: number; deviceSize: number }
  | { name: 'flush' }
  | { name: 'bitmapList' }
  | { name: 'bitmapChange'; change: BitmapChange }
  /** What the image holds goes into what lies behind it, and the image is emptied unless `keep`. */
  | { name: 'commit'; keep: boolean; bytesPerSecond: number }
  /** Bytes. The guest waits until the image is open with it. */
  | { name: 'changeCache'; size: number }
  | { name: 'statistics' };

/** Counters since the image was opened, or got another cache. */
export interface UblkEngineStatistics {
  readonly cacheHits: number;
  readonly cacheMisses: number;
  readonly cacheEvictions: number;
  readonly cacheSize: number;
  readonly allocatedClusters: number;
  readonly writeOuts: number;
  readonly flushes: number;
  readonly waits: number;
  /** What the core asked for and was refused: 0, or a fault of ours. */
  readonly violations: number;
  /** Requests of the kernel that made no sense. */
  readonly malformed: number;
}

/** Needs no event loop: it takes the ring's turns itself. Rejects with the CorralError with which the verb failed. */
export async function carryOut(engine: RingEngine, verb: UblkVerb, facts: ImageFacts): Promise<unknown> {
  switch (verb.name) {
    case 'snapshotList':
      return listSnapshots(engine);
    case 'snapshotCreate':
      return engine.run({
        kind: RequestKind.SnapshotCreate,
        prepare: (core) => writeSnapshotOptions(core, verb.snapshot),
      });
    case 'snapshotDelete': {
      const found = findSnapshot(engine, verb.snapshot);
      return engine.run({ kind: RequestKind.SnapshotDelete, prepare: (core) => writeSelection(core, found) });
    }
    case 'resize':
      return resize(engine, verb, facts);
    case 'flush':
      return engine.run({ kind: RequestKind.Flush });
    case 'bitmapList':
      return bitmapsOf(engine).list();
    case 'bitmapChange':
      return changeBitmap(bitmapsOf(engine), verb.change);
    case 'commit':
      return commit(engine, verb, facts);
    case 'changeCache':
      return changeCache(engine, verb.size);
    case 'statistics':
      return statistics(engine);
  }
}

/** The same for a raw disk. */
export async function carryOutRaw(engine: RawRing, verb: UblkVerb): Promise<unknown> {
  switch (verb.name) {
    case 'flush':
      return engine.flush();
    case 'statistics':
      return rawStatistics(engine);
    default:
      throw new CorralError('ERR_UNSUPPORTED', { reason: 'It is a raw disk: that is for images' });
  }
}

function listSnapshots(engine: RingEngine): Snapshot[] {
  const snapshots: Snapshot[] = [];
  while (true) {
    const request = { kind: RequestKind.SnapshotList, guestOffset: snapshots.length, collect: readSnapshots };
    const more = engine.run(request) ?? [];
    if (more.length === 0) return snapshots;
    snapshots.push(...more);
  }
}

function findSnapshot(engine: RingEngine, wanted: string | SnapshotSelection): SnapshotSelection {
  if (typeof wanted !== 'string') return wanted;
  const snapshots = listSnapshots(engine);
  const found = snapshots.find(({ id }) => id === wanted) ?? snapshots.find(({ name }) => name === wanted);
  if (found === undefined) throw new CorralError('ERR_NOT_FOUND', { reason: `Snapshot '${wanted}' not found` });
  return { id: found.idBytes, name: found.nameBytes };
}

/** @param facts of the image when it was opened */
function resize(engine: RingEngine, { size, deviceSize }: UblkVerb & { name: 'resize' }, facts: ImageFacts): number {
  const virtualSize = engine.core.info.virtualSize;
  if (facts.hasDataFile) {
    throw new CorralError('ERR_UNSUPPORTED', {
      reason: 'The disk has an external data file: it cannot be resized while it is served',
    });
  }
  if (size < virtualSize) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: 'A disk cannot become smaller while it is served: detach the device first',
    });
  }
  engine.run(resizeRequest({ ...facts, virtualSize }, size, {}));
  engine.setDeviceSize(deviceSize);
  return engine.core.info.virtualSize;
}

/**
 * The guest's requests wait meanwhile. Cut off at any moment, the image still holds its disk: it is emptied last, when what
 * lies behind it is durable.
 */
function commit(engine: RingEngine, { keep, bytesPerSecond }: UblkVerb & { name: 'commit' }, facts: ImageFacts): void {
  if (facts.backingFile === undefined) {
    throw new CorralError('ERR_UNSUPPORTED', { reason: 'Image does not have a backing file' });
  }
  if (!keep && facts.hasDataFile) {
    throw new CorralError('ERR_UNSUPPORTED', { reason: 'An image with an external data file is not emptied' });
  }
  engine.holdGuest();
  try {
    engine.run({ kind: RequestKind.Flush });
    engine.commitBehind(bytesPerSecond);
    if (keep) return;
    for (const request of uncoverRequests(engine.core.info.virtualSize)) engine.run(request);
    engine.run({ kind: RequestKind.Flush });
  } finally {
    engine.releaseGuest();
  }
}

/** Requests of the guest wait meanwhile; everything that was answered is durable then. */
function changeCache(engine: RingEngine, size: number): void {
  if (engine.isShared) {
    throw new CorralError('ERR_UNSUPPORTED', {
      reason:
        'The threads of several queues share the memory that the cache is in: attach the image again for another size',
    });
  }
  engine.holdGuest();
  try {
    engine.changeCache(size);
  } finally {
    engine.releaseGuest();
  }
}

function statistics(engine: RingEngine): UblkEngineStatistics {
  const core = engine.locked(() => engine.core.statistics());
  const { violations } = engine.ring.statistics();
  return {
    cacheHits: core.cacheHits,
    cacheMisses: core.cacheMisses,
    cacheEvictions: core.cacheEvictions,
    cacheSize: core.cacheSize,
    allocatedClusters: core.allocatedClusters,
    writeOuts: core.writeOuts,
    flushes: core.flushes,
    waits: core.waits,
    violations,
    malformed: engine.malformed,
  };
}

function rawStatistics({ ring }: RawRing): UblkEngineStatistics {
  const { violations, malformed } = ring.statistics();
  const cache = { cacheHits: 0, cacheMisses: 0, cacheEvictions: 0, cacheSize: 0 };
  return { ...cache, allocatedClusters: 0, writeOuts: 0, flushes: 0, waits: 0, violations, malformed };
}
