/** `npm run simulate`: runs seeds and says which of them fail, and how to see it again. */

import { readFileSync } from 'node:fs';
import { parseArguments, type SimulatorArguments } from './arguments.js';
import { type SeedResult, simulate } from './simulation.js';
import { Progress, watch } from './watchdog.js';

/** From dist/fuzz/simulator/: the core that is shipped, and the one with assertions. */
const SHIPPED_CORE = new URL('../../corral.wasm', import.meta.url);
const CHECKED_CORE = new URL('../../corral.debug.wasm', import.meta.url);
const CORPUS = new URL('../../../fuzz/corpus/seeds.json', import.meta.url);

/** Compiled once. */
const modules = new Map<URL, WebAssembly.Module>();

process.exitCode = main(process.argv.slice(2));

function main(args: readonly string[]): number {
  const parsed = parseArguments(args);
  if ('problem' in parsed) {
    console.error(`simulate: ${parsed.problem}`);
    return 1;
  }
  if (parsed.seed === undefined) return runSeeds(parsed);
  return report(runSeed(parsed.seed, parsed.trace)) ? 0 : 1;
}

/** Seeds that failed once, then new ones, until there were enough or the time is over. */
function runSeeds({ seeds, start, minutes }: SimulatorArguments): number {
  const begin = performance.now();
  const isOver = () => minutes !== undefined && performance.now() - begin > minutes * 60000;
  const progress = new Progress();
  watch(progress);
  const run = (seed: number) => {
    progress.seed = seed;
    if (report(runSeed(seed, false))) progress.passed++;
    else progress.failed++;
  };
  const known: number[] = JSON.parse(readFileSync(CORPUS, 'utf8'));
  for (const seed of known) run(seed);
  for (let seed = start; seed < start + seeds && !isOver(); seed++) run(seed);
  const { passed, failed } = progress;
  const seconds = (performance.now() - begin) / 1000;
  console.log(`${((passed + failed) / seconds).toFixed(0)} seeds a second, ${seconds.toFixed(0)} s`);
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** Even seeds run the core with assertions, odd ones the core that is shipped. */
function runSeed(seed: number, trace: boolean): SeedResult {
  const module = loadModule(seed % 2 === 0 ? CHECKED_CORE : SHIPPED_CORE);
  return simulate(seed, { module, ...(trace ? { print: (line: string) => console.log(line) } : {}) });
}

function report({ seed, failure }: SeedResult): boolean {
  if (failure === undefined) return true;
  console.log(`seed ${seed} failed: ${failure}`);
  console.log(`  again: npm run simulate -- --seed ${seed} --trace`);
  return false;
}

function loadModule(url: URL): WebAssembly.Module {
  let module = modules.get(url);
  if (module === undefined) {
    module = new WebAssembly.Module(readFileSync(url));
    modules.set(url, module);
  }
  return module;
}
