/** What the tests of each kernel have in common: one machine, and scenarios that must succeed in it. */
import { afterAll, beforeAll, expect, inject } from 'vitest';
import type { KernelSeries } from './kernel.js';
import { Machine, type Outcome } from './machine.js';
import { scenarioScript } from './scenario.js';
import type { SharedFiles } from './setup.js';

/**
 * What a scenario may take before it counts as stuck. In an emulated machine on a busy one this is ten times what it
 * takes at best.
 */
const SCENARIO_SECONDS = 400;

export interface KernelSuite extends SharedFiles {
  /** Runs a scenario, which must succeed. */
  scenario(name: string, ...args: readonly string[]): Promise<Outcome>;
}

/** To be called at the top of a test file. The machine boots with the first scenario and is off after the last test. */
export function kernelSuite(series: KernelSeries): KernelSuite {
  const files = inject('sharedFiles');
  let machine: Machine;

  beforeAll(async () => {
    // Big enough for an image of half a GiB, what is written to it, and the guest's own caches.
    machine = await Machine.create(series, { shared: files.folder, memoryMiB: 2560, scratchMiB: 1536 });
  });

  afterAll(async () => {
    await machine.close();
  });

  return {
    ...files,
    async scenario(name, ...args) {
      const outcome = await machine.run(scenarioScript(name, ...args), { seconds: SCENARIO_SECONDS });
      // The whole output is what explains a failure.
      expect(outcome.status, `${name}: ${outcome.output}`).toBe(0);
      return outcome;
    },
  };
}
