/** Internal snapshots and bitmaps of an inspected image: who is listed, and what is wrong with the lists. */

import { Field } from '../abi.js';
import { type BitmapFacts, Bitmaps } from '../bitmaps.js';
import type { Engine } from '../engine.js';
import { CorralError } from '../errors.js';
import type { Snapshot } from '../snapshot-record.js';
import { Snapshots } from '../snapshots.js';
import type { Findings } from './findings.js';
import { hasDeceivingText, type ImageText, imageText } from './names.js';
import type { Qcow2Header } from './qcow2-header.js';

/** Snapshots and bitmaps that a report lists; all are counted. */
const LISTED = 100;

/** Sizes are decimal texts. */
export interface SnapshotReport {
  readonly id: ImageText;
  readonly name: ImageText;
  readonly diskSize: string;
  readonly vmStateSize: string;
}

export interface BitmapReport {
  readonly name: ImageText;
  readonly granularity: number;
  readonly enabled: boolean;
  readonly inconsistent: boolean;
}

/** Everything that is listed. */
export interface Lists {
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly BitmapFacts[];
}

/** Asks the core for both lists. */
export async function readLists(engine: Engine, header: Qcow2Header, findings: Findings): Promise<Lists> {
  const control = <T>(work: () => Promise<T>): Promise<T> => work();
  const snapshots = await new Snapshots({ engine, control, resized: () => {} })
    .list()
    .catch((error: unknown) => note(findings, error, 'snap.table', header.snapshotsOffset));
  const { clusterSize, virtualSize } = header.facts;
  const runner = { runControl: engine.run.bind(engine), clusterSize, size: () => virtualSize };
  const bitmaps = await new Bitmaps(runner)
    .list()
    .catch((error: unknown) => note(findings, error, 'bitmap.directory', undefined));
  judgeSnapshots(findings, snapshots, header.snapshotsOffset);
  judgeBitmaps(findings, bitmaps);
  if (header.bitmaps === 'stale') {
    findings.add('bitmap.stale', 'A program that does not know bitmaps has changed the image');
  }
  if (header.bitmaps === 'damaged') findings.add('bitmap.directory', 'The place of the bitmaps makes no sense');
  return { snapshots, bitmaps };
}

/** A list that the core refuses. Rejects with what is not about the image. */
function note(
  findings: Findings,
  error: unknown,
  id: 'snap.table' | 'bitmap.directory',
  offset: number | undefined,
): never[] {
  const details = error instanceof CorralError && error.code === 'ERR_IMAGE_CORRUPT' ? error.details : undefined;
  if (details === undefined) throw error;
  const extra = id === 'snap.table' && details.fieldCode === Field.SnapshotExtraData;
  const numbers = { offset: details.hostOffset ?? offset, value: details.found, limit: details.limit };
  findings.add(extra ? 'snap.extra-data' : id, 'The list cannot be read', numbers);
  return [];
}

function judgeSnapshots(findings: Findings, snapshots: readonly Snapshot[], offset: number): void {
  if (snapshots.length === 0) return;
  const place = { offset, value: snapshots.length };
  findings.add('snap.hidden-state', 'Snapshots hold disks beside the active one', place);
  const states = snapshots.filter(({ vmStateSize }) => vmStateSize > 0).length;
  if (states > 0) findings.add('snap.vm-state', 'Snapshots hold the memory of a machine', { offset, value: states });
  const ids = new Set(snapshots.map(({ idBytes }) => imageText(idBytes).text));
  if (ids.size < snapshots.length) findings.add('snap.duplicate-id', 'Two snapshots have one id', place);
  if (snapshots.some(({ idBytes, nameBytes }) => hasDeceivingText(idBytes) || hasDeceivingText(nameBytes))) {
    findings.add('text.escape-sequences', 'Control characters in the name of a snapshot', place);
  }
}

function judgeBitmaps(findings: Findings, bitmaps: readonly BitmapFacts[]): void {
  const open = bitmaps.filter(({ inconsistent }) => inconsistent).length;
  if (open > 0) findings.add('bitmap.in-use', 'Bitmaps were not stored', { value: open });
  const extended = bitmaps.filter(({ extraData }) => extraData).length;
  if (extended > 0)
    findings.add('bitmap.extra-data', 'Bitmaps with extra data, or with the flag for them', { value: extended });
  if (bitmaps.some(({ nameBytes }) => hasDeceivingText(nameBytes))) {
    findings.add('text.escape-sequences', 'Control characters in the name of a bitmap');
  }
}

export function snapshotReports(snapshots: readonly Snapshot[]): SnapshotReport[] {
  return snapshots.slice(0, LISTED).map(({ idBytes, nameBytes, diskSize, vmStateSize }) => ({
    id: imageText(idBytes),
    name: imageText(nameBytes),
    diskSize: BigInt(diskSize).toString(),
    vmStateSize: BigInt(vmStateSize).toString(),
  }));
}

export function bitmapReports(bitmaps: readonly BitmapFacts[]): BitmapReport[] {
  return bitmaps.slice(0, LISTED).map(({ nameBytes, granularity, enabled, inconsistent }) => ({
    name: imageText(nameBytes),
    granularity,
    enabled,
    inconsistent,
  }));
}
