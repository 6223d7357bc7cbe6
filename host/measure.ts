/** How long the file of a qcow2 image becomes, by the sizes of its structures. */

const ENTRY_SIZE = 8;

/** The properties of a new image that its length depends on. Sizes are bytes. */
export interface MeasuredImage {
  readonly virtualSize: number;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly extendedL2: boolean;
}

/** Bytes of the file when all of the disk is allocated. */
export function fullyAllocatedLength(image: MeasuredImage): number {
  const { clusterSize, refcountBits } = image;
  const diskSize = roundUp(image.virtualSize, clusterSize);
  const l2EntrySize = image.extendedL2 ? 2 * ENTRY_SIZE : ENTRY_SIZE;
  const l2Length = roundUp(diskSize / clusterSize, clusterSize / l2EntrySize) * l2EntrySize;
  const l1Length = roundUp(l2Length / clusterSize, clusterSize / ENTRY_SIZE) * ENTRY_SIZE;
  const tables = clusterSize + l2Length + l1Length;
  return tables + refcountLength((tables + diskSize) / clusterSize, clusterSize, refcountBits) + diskSize;
}

/** Bytes of refcount blocks and table for so many clusters and themselves. */
function refcountLength(clusters: number, clusterSize: number, refcountBits: number): number {
  const refcountsPerBlock = (clusterSize * 8) / refcountBits;
  const blocksPerCluster = clusterSize / ENTRY_SIZE;
  let [blocks, table] = [0, 0];
  while (true) {
    const before = blocks + table;
    blocks = Math.ceil((clusters + table + blocks) / refcountsPerBlock);
    table = Math.ceil(blocks / blocksPerCluster);
    if (blocks + table === before) return before * clusterSize;
  }
}

/** A bitmap that would be copied. */
export interface MeasuredBitmap {
  readonly nameBytes: Uint8Array;
  readonly granularity: number;
}

/** Bytes that bitmaps need in an image of this cluster size. */
export function bitmapsLength(bitmaps: readonly MeasuredBitmap[], virtualSize: number, clusterSize: number): number {
  let [length, directory] = [0, 0];
  for (const { nameBytes, granularity } of bitmaps) {
    const bytes = Math.ceil(Math.ceil(virtualSize / granularity) / 8);
    const clusters = Math.ceil(bytes / clusterSize);
    length += clusters * clusterSize + roundUp(clusters * ENTRY_SIZE, clusterSize);
    directory += roundUp(24 + nameBytes.length, 8);
  }
  return length + roundUp(directory, clusterSize);
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
