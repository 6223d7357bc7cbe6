/** What lies at an offset of the disk or of the file, with the names of the fields and entries around it. */

import { CorralError } from '../../../host/errors.js';
import type { GUEST_KINDS, NamedBytes, Place, Space, State } from '../protocol.js';
import { headerFields } from './header-fields.js';
import { entryOffset, entryPlace, refcountAt } from './host-entries.js';
import type { HostLayout } from './host-layout.js';
import { readWholeMap, type Watch } from './maps.js';
import type { Session } from './session.js';

const OFLAG_COPIED = 0x8000_0000;
const OFLAG_ZERO = 1;
/** Names of entries at once. */
const MOST_NAMES = 512;

export interface PlaceRequest {
  readonly space: Space;
  readonly state: State;
  readonly offset: number;
  /** Bytes for which names are wanted. */
  readonly length: number;
}

export async function placeAt(session: Session, request: PlaceRequest, watch: Watch): Promise<Place> {
  return request.space === 'guest' ? guestPlace(session, request, watch) : hostPlace(session, request, watch);
}

const GUEST_TITLES: Readonly<Record<(typeof GUEST_KINDS)[number], string>> = {
  unallocated: 'Never written: reads as zeros',
  zero: 'Zeros, noted in the tables',
  data: 'Data',
  compressed: 'A compressed cluster',
  backing: 'Data of a backing file',
};

async function guestPlace(session: Session, { state, offset }: PlaceRequest, { signal }: Watch): Promise<Place> {
  const { disk, index } = await session.view(state);
  const at = Math.max(0, Math.min(offset, disk.size - 1));
  await index.extendTo(at + 1, signal);
  for await (const extent of index.between(at, at + 1, signal)) {
    const { kind, depth, hostOffset, length } = extent;
    const layer = depth > 0 ? session.overview.chain[depth]?.name : undefined;
    const title = layer === undefined ? GUEST_TITLES[kind] : `${GUEST_TITLES[kind]}: ${layer}`;
    const own = depth === 0 && hostOffset !== undefined && !session.overview.facts?.hasDataFile;
    const into = kind === 'compressed' ? 0 : at - extent.offset;
    const other = own ? ({ space: 'host', offset: hostOffset + into } as const) : undefined;
    return { space: 'guest', kind, offset: extent.offset, length, title, names: [], other };
  }
  return { space: 'guest', kind: 'unallocated', offset: at, length: 0, title: 'Behind the end', names: [] };
}

async function hostPlace(session: Session, request: PlaceRequest, watch: Watch): Promise<Place> {
  const { offset, length } = request;
  if (session.overview.facts === undefined) {
    const title = 'A byte of the file';
    return { space: 'host', kind: 'data', offset: 0, length: session.overview.fileLength, title, names: [] };
  }
  const layout = await session.layout(watch);
  const kind = layout.kindAt(offset);
  const names = await namesIn(session, layout, offset, length);
  const stretch = layout.stretchAt(offset);
  const place = { space: 'host' as const, kind, ...stretch, names };
  if (kind !== 'data' && kind !== 'compressed') return { ...place, title: TITLES[kind] };
  // Who asks for the names on a page does not ask whose the first byte is.
  const owner = length === 0 ? await ownerOf(session, offset, watch) : undefined;
  if (owner === undefined) return { ...place, title: TITLES[kind] };
  return { ...place, title: `${TITLES[kind]} of guest offset ${owner}`, other: { space: 'guest', offset: owner } };
}

const TITLES: Readonly<Record<ReturnType<HostLayout['kindAt']>, string>> = {
  free: 'Free: nothing names it, and it is not counted',
  leaked: 'Leaked: counted, but nothing names it',
  header: 'Header and its extensions',
  l1: 'L1 table: where the L2 tables are',
  l2: 'L2 table: where the clusters of the disk are',
  refcounts: 'Refcounts: how often each cluster is in use',
  snapshots: 'Table of snapshots',
  bitmaps: 'Bitmaps',
  encryption: 'Encryption header',
  data: 'Data',
  compressed: 'Compressed data',
  'snapshot data': 'Data that only snapshots have',
};

/** Undefined also when the tables cannot be followed: what is wrong with them is told elsewhere. */
async function ownerOf(session: Session, offset: number, watch: Watch): Promise<number | undefined> {
  if (!session.overview.readable) return undefined;
  const view = await session.view(undefined);
  try {
    await readWholeMap(view, watch);
  } catch (error) {
    if (!(error instanceof CorralError) || error.code === 'ERR_CANCELLED') throw error;
  }
  const extent = view.index.ownerOf(offset);
  if (extent?.hostOffset === undefined) return undefined;
  return extent.kind === 'compressed' ? extent.offset : extent.offset + offset - extent.hostOffset;
}

/** Names of what lies between two offsets; entries that are zero have none. */
async function namesIn(session: Session, layout: HostLayout, from: number, length: number): Promise<NamedBytes[]> {
  const names: NamedBytes[] = [];
  const end = Math.min(from + length, layout.fileLength);
  for (let at = from; at < end && names.length < MOST_NAMES; ) {
    const cluster = Math.floor(at / layout.clusterSize) * layout.clusterSize;
    const stop = Math.min(end, cluster + layout.clusterSize);
    names.push(...(await namesOfCluster(session, layout, { cluster, from: at, to: stop })));
    at = stop;
  }
  return names.slice(0, MOST_NAMES);
}

interface Window {
  /** Offset at which the cluster begins. */
  readonly cluster: number;
  readonly from: number;
  readonly to: number;
}

async function namesOfCluster(session: Session, layout: HostLayout, window: Window): Promise<NamedBytes[]> {
  const kind = layout.kindAt(window.cluster);
  const { facts } = layout;
  if (kind === 'header') {
    const header = await bytesOf(session, 0, Math.min(facts.clusterSize, 4096));
    return headerFields(header, facts).filter(({ offset, length }) => overlaps(window, offset, length));
  }
  if (kind !== 'l1' && kind !== 'l2' && kind !== 'refcounts') return [];
  const from = Math.floor(window.from / 16) * 16;
  const bytes = await bytesOf(session, from, Math.ceil((window.to - from) / 16) * 16);
  if (kind === 'l2') return l2Names(layout, window.cluster, from, bytes);
  const table = kind === 'l1' ? facts.l1TableOffset : facts.refcountTableOffset;
  const blockStart = layout.refcountBlocks.get(window.cluster);
  if (kind === 'refcounts' && blockStart !== undefined) return refcountNames(layout, window.cluster, from, bytes);
  return tableNames(layout, kind, table, from, bytes);
}

/** Of an L1 table or the refcount table. */
function tableNames(
  layout: HostLayout,
  kind: 'l1' | 'refcounts',
  table: number,
  from: number,
  bytes: Uint8Array,
): NamedBytes[] {
  const view = new DataView(bytes.buffer);
  const names: NamedBytes[] = [];
  const isMain = from >= table && from - table < 2 ** 32;
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    const offset = entryOffset(view, at);
    if (offset === 0) continue;
    const number = (from + at - table) / 8;
    const owned = isMain && (kind === 'refcounts' || number < layout.facts.l1Size);
    const name = kind === 'l1' ? 'L1 entry' : 'Refcount table entry';
    names.push({
      offset: from + at,
      length: 8,
      name: owned ? `${name} ${number}` : `${name} of a snapshot`,
      value: `${kind === 'l1' ? 'L2 table' : 'refcount block'} at ${hex(offset)}${copied(view, at, kind === 'l1')}`,
      target: { space: 'host', offset },
    });
  }
  return names;
}

function l2Names(layout: HostLayout, table: number, from: number, bytes: Uint8Array): NamedBytes[] {
  const view = new DataView(bytes.buffer);
  const step = layout.facts.extendedL2 ? 16 : 8;
  const start = layout.l2Tables.get(table);
  const names: NamedBytes[] = [];
  for (let at = 0; at + step <= bytes.length; at += step) {
    const index = (from + at - table) / step;
    const place = entryPlace(view, at, Math.log2(layout.clusterSize));
    const zero = !layout.facts.extendedL2 && (view.getUint32(at + 4) & OFLAG_ZERO) !== 0;
    const bitmap = layout.facts.extendedL2 ? view.getBigUint64(at + 8) : 0n;
    if (place === undefined && !zero && bitmap === 0n) continue;
    const guest = start === undefined ? '' : `, guest offset ${hex(start + index * layout.clusterSize)}`;
    const kind = place?.compressed ? `compressed, ${place.length} bytes` : zero ? 'zeros' : 'data';
    const where = place === undefined ? '' : ` at ${hex(place.offset)}`;
    const parts = bitmap === 0n ? '' : `, subclusters ${bitmap.toString(16).padStart(16, '0')}`;
    names.push({
      offset: from + at,
      length: step,
      name: `L2 entry ${index}${guest}`,
      value: `${kind}${where}${copied(view, at, !place?.compressed)}${parts}`,
      target: place === undefined ? undefined : { space: 'host', offset: place.offset },
    });
  }
  return names;
}

function refcountNames(layout: HostLayout, block: number, from: number, bytes: Uint8Array): NamedBytes[] {
  const { refcountBits } = layout.facts;
  const first = (layout.refcountBlocks.get(block) as number) / layout.clusterSize;
  const names: NamedBytes[] = [];
  const perByte = Math.max(1, 8 / refcountBits);
  const size = Math.max(1, refcountBits / 8);
  for (let at = 0; at + size <= bytes.length; at += size) {
    const index = ((from + at - block) * 8) / refcountBits;
    const counts = Array.from({ length: perByte }, (_, each) =>
      refcountAt(bytes, (at * 8) / refcountBits + each, refcountBits),
    );
    if (counts.every((count) => count === 0)) continue;
    const cluster = first + index;
    const name =
      perByte === 1 ? `Refcount of cluster ${cluster}` : `Refcounts of clusters ${cluster} to ${cluster + perByte - 1}`;
    const target = { space: 'host' as const, offset: cluster * layout.clusterSize };
    names.push({ offset: from + at, length: size, name, value: counts.join(', '), target });
  }
  return names;
}

function copied(view: DataView, at: number, possible: boolean): string {
  return possible && (view.getUint32(at) & OFLAG_COPIED) !== 0 ? ', not shared' : '';
}

function overlaps({ from, to }: Window, offset: number, length: number): boolean {
  return offset < to && offset + length > from;
}

async function bytesOf(session: Session, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const target = new Uint8Array(length);
  await session.file.read(offset, target);
  return target;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
