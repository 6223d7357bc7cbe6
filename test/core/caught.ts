/** Whether the simulator notices a mistake. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { Random } from '../../fuzz/simulator/random.js';
import { drawScenario, type Emphasis, type Scenario } from '../../fuzz/simulator/scenario.js';
import { type SimulationOptions, simulate } from '../../fuzz/simulator/simulation.js';
import { compileMutated, type Mutation } from './mutated-core.js';

/** More than ten times what any mistake here needs. */
const SEEDS = 1000;
/** Compiling a core and running all those seeds, on a machine that does other things too. */
export const CATCH_TIMEOUT = 120_000;

/** A change of the core that must not go unnoticed, and what the seeds are about that should notice it. */
export interface Mistake extends Mutation {
  readonly emphasis?: Emphasis;
  /** Only seeds that draw such a scenario are run. */
  readonly only?: (scenario: Scenario) => boolean;
}

/** The core that is shipped. */
export function shippedCore(): WebAssembly.Module {
  return new WebAssembly.Module(readFileSync(join(import.meta.dirname, '../../dist/corral.wasm')));
}

/** Some seed notices the mistake; the same seed has nothing against the core without it. */
export async function expectCaught({ emphasis, only, ...mutation }: Mistake): Promise<void> {
  const module = await compileMutated(mutation);
  expectFailure({ module, ...(emphasis === undefined ? {} : { emphasis }) }, only);
}

/** Some seed fails with these options, and passes with the core that is shipped on a disk that keeps its promises. */
export function expectFailure(options: SimulationOptions, only: (scenario: Scenario) => boolean = () => true): void {
  const { emphasis } = options;
  let seed = 1;
  let failure: string | undefined;
  for (; seed <= SEEDS && failure === undefined; seed++) {
    if (only(drawScenario(new Random(seed), emphasis))) failure = simulate(seed, options).failure;
  }
  const { sabotage, ...honest } = options;

  expect(failure, `the first failure in ${SEEDS} seeds`).toBeDefined();
  expect(
    simulate(seed - 1, { ...honest, module: shippedCore() }).failure,
    `seed ${seed - 1} otherwise`,
  ).toBeUndefined();
}
