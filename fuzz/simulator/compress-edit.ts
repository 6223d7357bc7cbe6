/** Somebody else compresses clusters of the active disk, and packs them into the host clusters that they had. */

import { compressCells } from './fake-codec.js';
import type { CheckOutcome } from './image-check.js';
import { ImageReader } from './image-reader.js';
import type { DataCluster } from './mappings.js';
import type { Model } from './model.js';
import { SECTOR } from './pattern.js';
import type { CutResult } from './power-cut.js';
import type { Random } from './random.js';
import { highestRefcount } from './refcount-edit.js';

/** Host clusters that one edit fills, at most. */
const LARGEST_REGION = 3;
const COMPRESSED = 1n << 62n;

/** Changes entries and data; refcounts are left to the caller. Returns the file. */
export function compressRegion(random: Random, file: CutResult, outcome: CheckOutcome, model: Model): CutResult {
  const reader = new ImageReader(file);
  const { clusterSize } = reader;
  const candidates = outcome.active.clusters
    .filter((cluster) => isOwn(reader, outcome, cluster))
    .sort((one, other) => one.hostOffset - other.hostOffset);
  if (candidates.length === 0) return file;
  const first = random.below(candidates.length);
  const start = (candidates[first] as DataCluster).hostOffset;
  const limit = highestRefcount(reader);
  let count = 1;
  while (
    count < Math.min(limit, LARGEST_REGION) &&
    candidates[first + count]?.hostOffset === start + count * clusterSize
  )
    count++;
  // Those whose host clusters are filled must move; others may join them where there is room.
  const joining = candidates.filter((_, index) => (index < first || index >= first + count) && random.chance(0.3));
  const moving = [...candidates.slice(first, first + count), ...joining].map((cluster) => ({
    cluster,
    bytes: compressCells(cluster.guestOffset, idsOf(model, reader, cluster)),
  }));
  const needed = moving.slice(0, count).reduce((sum, { bytes }) => sum + bytes.length, 0);
  let length = file.length;
  let at = random.below(count * clusterSize - needed + 1);
  const uses: number[] = new Array(count).fill(0);
  moving.forEach(({ cluster, bytes }, index) => {
    const end = Math.ceil((at + bytes.length) / SECTOR) * SECTOR;
    const pieces = [Math.floor(at / clusterSize), Math.floor((end - 1) / clusterSize)] as const;
    const fits = end <= count * clusterSize && pieces.every((piece) => (uses[piece] as number) < limit);
    if (!fits && index >= count) return;
    for (let piece = pieces[0]; piece <= pieces[1]; piece++) uses[piece] = (uses[piece] as number) + 1;
    setCompressed(file, reader, cluster, start + at, bytes.length);
    file.bytes.write(start + at, bytes);
    length = Math.max(length, start + at + bytes.length);
    at += bytes.length + (index >= count ? random.below(200) : 0);
  });
  return { bytes: file.bytes, length };
}

/** Nobody else has the cluster or its table. */
function isOwn(reader: ImageReader, { references }: CheckOutcome, cluster: DataCluster): boolean {
  const countAt = (offset: number) => references.countOf(Math.floor(offset / reader.clusterSize));
  const plain = cluster.compressedLength === 0 && cluster.guestOffset < reader.header.virtualSize;
  return plain && countAt(cluster.hostOffset) === 1 && countAt(cluster.entryOffset) === 1;
}

function idsOf(model: Model, reader: ImageReader, { guestOffset }: DataCluster): number[] {
  const { perSector } = model.cells;
  const first = (guestOffset / SECTOR) * perSector;
  const diskEnd = (reader.header.virtualSize / SECTOR) * perSector;
  return Array.from({ length: (reader.clusterSize / SECTOR) * perSector }, (_, index) =>
    first + index < diskEnd ? model.onDisk(first + index) : 0,
  );
}

function setCompressed(
  file: CutResult,
  reader: ImageReader,
  cluster: DataCluster,
  offset: number,
  length: number,
): void {
  const offsetBits = BigInt(62 - (reader.header.clusterBits - 8));
  const additional = BigInt(Math.floor(((offset % SECTOR) + length - 1) / SECTOR));
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, COMPRESSED | (additional << offsetBits) | BigInt(offset));
  file.bytes.write(cluster.entryOffset, new Uint8Array(view.buffer));
}
