/** Pictures of both sides of an image: of the disk, and of its file. */

import {
  type ExtentPage,
  GUEST_KINDS,
  HOST_KINDS,
  type MapPicture,
  type MapRequest,
  type Progress,
  type State,
} from '../protocol.js';
import type { HostLayout } from './host-layout.js';
import { PictureBuilder } from './picture.js';
import type { Session, View } from './session.js';

export interface Watch {
  readonly signal: AbortSignal;
  readonly report: (progress: Progress) => void;
}

const MOST_CELLS = 65536;

export async function mapPicture(session: Session, request: MapRequest, watch: Watch): Promise<MapPicture> {
  const cells = Math.max(1, Math.min(request.cells, MOST_CELLS));
  return request.space === 'guest'
    ? guestPicture(session, { ...request, cells }, watch)
    : hostPicture(session, { ...request, cells }, watch);
}

async function guestPicture(session: Session, request: MapRequest, { signal, report }: Watch): Promise<MapPicture> {
  const { disk, index } = await session.view(request.state);
  const from = Math.max(0, request.from);
  const to = Math.min(request.to, disk.size);
  const builder = (): PictureBuilder =>
    new PictureBuilder({ from, to, cells: request.cells, unit: disk.unit }, GUEST_KINDS.length);
  const tell = (): void => {
    const partial = builder();
    for (const extent of index.knownBetween(from, to)) partial.add(coded(extent));
    report({ done: index.known, total: to, partial: partial.picture(index.known) });
  };
  try {
    await index.extendTo(to, signal, tell);
  } catch (error) {
    // What lies before a table that makes no sense can be shown all the same.
    tell();
    throw error;
  }
  const whole = builder();
  for await (const extent of index.between(from, to, signal)) {
    signal.throwIfAborted();
    whole.add(coded(extent));
  }
  return whole.picture(to);
}

function coded<T extends { kind: (typeof GUEST_KINDS)[number] }>(extent: T): Omit<T, 'kind'> & { kind: number } {
  return { ...extent, kind: GUEST_KINDS.indexOf(extent.kind) };
}

async function hostPicture(session: Session, request: MapRequest, { signal, report }: Watch): Promise<MapPicture> {
  let walked: HostLayout | undefined;
  const pictureOf = (layout: HostLayout): MapPicture => {
    const { from, cells } = request;
    const to = Math.min(request.to, layout.fileLength);
    const builder = new PictureBuilder({ from, to, cells, unit: layout.clusterSize }, HOST_KINDS.length);
    for (const stretch of layout.between(from, to)) builder.add(stretch);
    return builder.picture(to);
  };
  const layout = await session.layout({
    signal,
    onLayout: (begun) => {
      walked = begun;
    },
    onReport: (done, total) => {
      if (walked !== undefined) report({ done, total, partial: pictureOf(walked) });
    },
  });
  return pictureOf(layout);
}

/** A page of the list of extents; reads on until it is known. */
export async function extentPage(
  session: Session,
  request: { state: State; first: number; count: number },
  watch: Watch,
): Promise<ExtentPage> {
  const { disk, index } = await session.view(request.state);
  await index.extendTo(disk.size, watch.signal, () => watch.report({ done: index.known, total: disk.size }));
  const end = Math.min(index.count, request.first + request.count);
  const extents = Array.from({ length: Math.max(0, end - request.first) }, (_, at) => index.at(request.first + at));
  return { total: index.count, complete: index.complete, extents };
}

/** Everything of a state's map is known afterwards, as far as the index has room. */
export async function readWholeMap({ disk, index }: View, { signal, report }: Watch): Promise<void> {
  await index.extendTo(disk.size, signal, () => report({ done: index.known, total: disk.size }));
}
