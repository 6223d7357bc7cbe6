/**
 * Host clusters that lost a reference, on their way to being free. Their refcount may sink only when the table that no
 * longer names them is durable: a crash before that would leave an entry that names a cluster with no count.
 *
 *   dropped ── pass begins ──▶ settling ── pass is durable ──▶ reclaimable ── refcounts lowered ──▶ spare
 *
 * Every list has a fixed capacity. Who would overflow `dropped` waits; runs that do not fit `spare` are found again by
 * the allocator's scan.
 */

/** `count` clusters from `cluster` on. */
@unmanaged
export class ClusterRun {
  cluster: u64 = 0;
  count: u64 = 0;
  /** Their space in the file is not given back. */
  quiet: bool = false;
  /** How many references each of them lost. */
  references: u32 = 0;
}

/** A stack of runs. */
@unmanaged
export class RunList {
  runs: usize = 0;
  count: u32 = 0;
}

/** Runs that a list holds at most. */
export const RUN_CAPACITY: u32 = 512;
/** Bytes of a list's runs. */
export const RUN_LIST_LENGTH: u64 = 12288;

const RUN_SIZE: usize = 24;

export function runAt(list: RunList, index: u32): ClusterRun {
  return changetype<ClusterRun>(list.runs + usize(index) * RUN_SIZE);
}

/** Room for one more run. */
export function hasRoom(list: RunList): bool {
  return list.count < RUN_CAPACITY;
}

/** Adds a run whose clusters lost one reference each; false when there is no room. */
export function addRun(list: RunList, cluster: u64, count: u64, quiet: bool): bool {
  return addReferences(list, cluster, count, quiet, 1);
}

/** As above, of `references` each; joined with the last run when it continues that. */
export function addReferences(list: RunList, cluster: u64, count: u64, quiet: bool, references: u32): bool {
  if (list.count > 0) {
    const last = runAt(list, list.count - 1);
    const alike = last.quiet === quiet && last.references === references;
    if (last.cluster + last.count === cluster && alike) {
      last.count += count;
      return true;
    }
  }
  if (!hasRoom(list)) return false;
  const run = runAt(list, list.count++);
  run.cluster = cluster;
  run.count = count;
  run.quiet = quiet;
  run.references = references;
  return true;
}

/** Moves everything; what does not fit is forgotten, which leaks it until the next check. */
export function moveRuns(from: RunList, to: RunList): void {
  for (let index: u32 = 0; index < from.count; index++) {
    const run = runAt(from, index);
    addReferences(to, run.cluster, run.count, run.quiet, run.references);
  }
  from.count = 0;
}
