/** Who uses which host cluster, how often, and whether they may share it. */

import type { ImageReader } from './image-reader.js';
import { SimulationFailure } from './trace.js';

/** A user of clusters; becomes words only when something is wrong. */
export interface Owner {
  /** 'entry' and 'compressed' for L2 entries, else the name of the structure. */
  readonly kind: string;
  /** Number of the disk: 0 for the active one, else a snapshot's. */
  readonly root?: number;
  readonly index?: number;
  /** L1 index of the table that an entry belongs to. */
  readonly table?: number;
}

/** Kinds that different disks share. Compressed clusters share sectors even within one. */
const SHARED_BY_DISKS: readonly string[] = ['L2 table', 'entry'];

export function nameOf({ kind, root = 0, index = 0, table = 0 }: Owner): string {
  const disk = root === 0 ? '' : ` of snapshot ${root}`;
  const isEntry = kind === 'entry' || kind === 'compressed';
  return isEntry ? `${kind} ${index} of L2 table ${table}${disk}` : `${kind} ${index}${disk}`;
}

export class References {
  /** The last user of each cluster, and how many there are. */
  private readonly uses = new Map<number, { owner: Owner; count: number }>();

  constructor(private readonly reader: ImageReader) {}

  /** Notes the clusters of a structure, which begins with one. */
  add(offset: number, length: number, owner: Owner): void {
    const { clusterSize } = this.reader;
    if (offset % clusterSize !== 0)
      throw new SimulationFailure(`${nameOf(owner)} at ${offset} does not begin at a cluster`);
    this.addSectors(offset, length, owner);
  }

  /** Notes every cluster that these bytes touch. */
  addSectors(offset: number, length: number, owner: Owner): void {
    const { clusterSize, file } = this.reader;
    if (length > 0 && offset >= file.length) {
      throw new SimulationFailure(`${nameOf(owner)} lies at ${offset}, beyond the end of the file at ${file.length}`);
    }
    for (let cluster = Math.floor(offset / clusterSize); cluster * clusterSize < offset + length; cluster++) {
      const use = this.uses.get(cluster);
      if (use !== undefined && !mayShare(use.owner, owner))
        throw new SimulationFailure(`cluster ${cluster} belongs to ${nameOf(use.owner)} and to ${nameOf(owner)}`);
      this.uses.set(cluster, { owner, count: (use?.count ?? 0) + 1 });
    }
  }

  countOf(cluster: number): number {
    return this.uses.get(cluster)?.count ?? 0;
  }

  /** Every cluster in use. */
  clusters(): Iterable<number> {
    return this.uses.keys();
  }

  /** A refcount may be too high, never too low. */
  checkCounts(): void {
    for (const [cluster, { owner, count }] of this.uses) {
      const refcount = this.reader.refcount(cluster);
      if (refcount >= count) continue;
      throw new SimulationFailure(
        `cluster ${cluster} of ${nameOf(owner)} has refcount ${refcount}, used ${count} times`,
      );
    }
  }
}

/** The disks are walked one after the other, so the last user's tells whether this one has used the cluster before. */
function mayShare(one: Owner, other: Owner): boolean {
  if (one.kind !== other.kind) return false;
  return one.kind === 'compressed' || (SHARED_BY_DISKS.includes(one.kind) && one.root !== other.root);
}
