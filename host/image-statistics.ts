/** What the core counts while an image is open. */

import type { CoreInstance } from './core-instance.js';

export interface ImageStatistics {
  readonly cacheHits: number;
  readonly cacheMisses: number;
  readonly cacheEvictions: number;
  /** Bytes of tables that the cache holds at most. */
  readonly cacheSize: number;
  readonly allocatedClusters: number;
  readonly writeOuts: number;
  readonly flushes: number;
  readonly waits: number;
}

/** The counters as they are now. */
export function readStatistics(core: CoreInstance): ImageStatistics {
  const view = core.statistics();
  return {
    cacheHits: view.cacheHits,
    cacheMisses: view.cacheMisses,
    cacheEvictions: view.cacheEvictions,
    cacheSize: view.cacheSize,
    allocatedClusters: view.allocatedClusters,
    writeOuts: view.writeOuts,
    flushes: view.flushes,
    waits: view.waits,
  };
}
