/** What a check found, from the core's page. */

import { CheckFindingView, CheckOutcome, CheckResultView, RequestKind } from './abi.js';
import type { CoreInstance } from './core-instance.js';

const CHECK_RESULT_SIZE = 88;
const CHECK_FINDING_SIZE = 40;

/** Counts of a check, as `qemu-img check` counts; after a repair, of what is left. */
export interface CheckReport {
  readonly corruptions: number;
  readonly leaks: number;
  readonly checkErrors: number;
  readonly allocatedClusters: number;
  readonly totalClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  readonly imageEndOffset: number;
  /** What a repair has put right. */
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  /** A repair has made the refcount structures anew. */
  readonly rebuilt: boolean;
  /** The refcount structures must be made anew, which a repair of leaks does not do: nothing was changed. */
  readonly needsRebuild: boolean;
  /** A repair has left leaked clusters alone: damaged structures that it cannot repair may have named them. */
  readonly leaksKept: boolean;
  /** The first things found; there may be more than are listed. */
  readonly findings: readonly CheckFinding[];
}

export interface CheckFinding {
  /** `Structure` and `Field` of the ABI. */
  readonly structure: number;
  readonly field: number;
  readonly hostOffset: number;
  readonly found: bigint;
  readonly expected: bigint;
  readonly leak: boolean;
  /** It was put right: `expected` is there now. */
  readonly repaired: boolean;
}

/** What a Check request has put into the page; while it finishes. */
export function readCheckReport(core: CoreInstance): CheckReport {
  const result = new CheckResultView(core.memory, core.layout.page);
  const finding = new CheckFindingView(core.memory);
  const findings = Array.from({ length: result.findingCount }, (_, index) => {
    const view = finding.at(core.layout.page + CHECK_RESULT_SIZE + index * CHECK_FINDING_SIZE);
    return {
      structure: view.structure,
      field: view.field,
      hostOffset: view.hostOffset,
      found: view.foundBig,
      expected: view.expectedBig,
      leak: view.leak !== 0,
      repaired: view.repaired !== 0,
    };
  });
  return {
    corruptions: result.corruptions,
    leaks: result.leaks,
    checkErrors: result.checkErrors,
    allocatedClusters: result.allocatedClusters,
    totalClusters: result.totalClusters,
    fragmentedClusters: result.fragmentedClusters,
    compressedClusters: result.compressedClusters,
    imageEndOffset: result.imageEndOffset,
    corruptionsFixed: result.corruptionsFixed,
    leaksFixed: result.leaksFixed,
    rebuilt: (result.outcome & CheckOutcome.Rebuilt) !== 0,
    needsRebuild: (result.outcome & CheckOutcome.NeedsRebuild) !== 0,
    leaksKept: (result.outcome & CheckOutcome.LeaksKept) !== 0,
    findings,
  };
}

/** Tells `report` ten times a second how far the check is that `run` runs. */
export async function watchProgress<T>(
  core: CoreInstance,
  report: ((done: number, total: number) => void) | undefined,
  run: () => Promise<T>,
): Promise<T> {
  const timer = report === undefined ? undefined : setInterval(() => reportProgress(core, report), 100);
  try {
    return await run();
  } finally {
    clearInterval(timer);
  }
}

/** Tells how far the running check is, in bytes of the file. */
function reportProgress(core: CoreInstance, report: (done: number, total: number) => void): void {
  for (let slot = 0; slot < core.layout.requestCapacity; slot++) {
    const record = core.request(slot);
    if (record.kind === RequestKind.Check) report(record.progress, record.progressTotal);
  }
}
