/** Bits of `CheckResult.outcome`. */
export enum CheckOutcome {
  /** The refcount table and its blocks were made anew. */
  Rebuilt = 1,
  /** Only RepairAll can help, by making the refcount table anew: nothing was changed. */
  NeedsRebuild = 2,
  /** Leaked clusters were left alone: a damaged structure that cannot be repaired may have named them. */
  LeaksKept = 4,
}

/** What a Check request found; lies at the start of the page. Counts are QEMU's: after a repair, of what is left. */
@unmanaged
export class CheckResult {
  /** References without (enough) refcount, entries that point nowhere, wrong COPIED flags. */
  corruptions: u64 = 0;
  /** Clusters whose refcount is higher than their references. */
  leaks: u64 = 0;
  /** Structures that could not be read or are not understood. */
  checkErrors: u64 = 0;
  /** Guest clusters with data, zero-allocated ones included. */
  allocatedClusters: u64 = 0;
  /** Guest clusters of the virtual disk. */
  totalClusters: u64 = 0;
  /** Allocated clusters whose predecessor in the guest is not their predecessor in the file. */
  fragmentedClusters: u64 = 0;
  compressedClusters: u64 = 0;
  /** End of the last host cluster in use, in bytes. */
  imageEndOffset: u64 = 0;
  /** What a repair has put right. */
  corruptionsFixed: u64 = 0;
  leaksFixed: u64 = 0;
  /** `CheckFinding` records behind this one in the page: the first ones found. */
  findingCount: u32 = 0;
  /** CheckOutcome bits. */
  outcome: u32 = 0;
}

/** One thing that Check found. */
@unmanaged
export class CheckFinding {
  /** Structure. */
  structure: u32 = 0;
  /** Field. */
  field: u32 = 0;
  /** Where in the file the wrong value stands, or the host cluster whose count is wrong, in bytes. */
  hostOffset: u64 = 0;
  /** Value found (refcount, entry). */
  found: u64 = 0;
  /** Value expected (references). */
  expected: u64 = 0;
  /** 1 for a leak, 0 for a corruption. */
  leak: u32 = 0;
  /** 1 when it was repaired: `expected` is there now. */
  repaired: u32 = 0;
}
