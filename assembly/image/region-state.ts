/** What the search for contiguous clusters remembers between two steps: see region.ts. */

export enum RegionStage {
  Idle = 0,
  /** The range was free a while ago: is it still? */
  Spare = 1,
  Blocks = 2,
  Scan = 3,
  Take = 4,
}

/** Where the search stands. */
@unmanaged
export class Region {
  stage: RegionStage = RegionStage.Idle;
  /** Clusters wanted. */
  count: u64 = 0;
  /** First cluster of the range, and the next one to look at or to take. */
  start: u64 = 0;
  cursor: u64 = 0;
  /** A refcount block that is being zeroed, 0 when none, and the range that it will count. */
  blockOffset: u64 = 0;
  blockIndex: u64 = 0;
}
