/** `npm run mutate`: damages images, one mutant after another, and says which of them the engine could not cope with. */

import { readFileSync, writeFileSync } from 'node:fs';
import { Random } from '../simulator/random.js';
import { Progress as Watched, watch } from '../simulator/watchdog.js';
import { type MutationArguments, parseArguments } from './arguments.js';
import { Inspection } from './inspection.js';
import { mutate } from './mutate.js';
import { drawOriginal, makeOriginals, type Original } from './originals.js';
import { Failure, Progress, tryMutant } from './trial.js';

/** From dist/fuzz/mutation/: the core that is shipped, and the one with assertions. */
const SHIPPED_CORE = new URL('../../corral.wasm', import.meta.url);
const CHECKED_CORE = new URL('../../corral.debug.wasm', import.meta.url);

/** Mutants whose inspection failed once. */
const INSPECTED: readonly number[] = JSON.parse(
  readFileSync(new URL('../../../fuzz/corpus/inspected-mutants.json', import.meta.url), 'utf8'),
);
/** So many inspections, and one in instances of its own. */
const FRESH_EVERY = 8;

const progress = new Progress();
/** Ends the running trial from outside: for what no promise of it says. */
let endTrial: (error: Error) => void = () => {};

// A trap inside of an answer reaches nobody; a request that waits for nothing leaves the process without work.
process.on('unhandledRejection', (error) => endTrial(new Failure(String((error as Error).stack ?? error))));
process.on('uncaughtException', (error) => endTrial(new Failure(String(error.stack))));
process.on('beforeExit', () => endTrial(new Failure('a request waits for ever')));

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});

async function main(args: readonly string[]): Promise<void> {
  const parsed = parseArguments(args);
  if ('problem' in parsed) {
    console.error(`mutate: ${parsed.problem}`);
    process.exit(1);
  }
  const cores = [CHECKED_CORE, SHIPPED_CORE].map((url) => new WebAssembly.Module(readFileSync(url)));
  const originals = await makeOriginals(cores[1] as WebAssembly.Module);
  const failed = await runMany(parsed, cores, originals);
  process.exit(failed === 0 ? 0 : 1);
}

/** The number of failures. */
async function runMany(
  { start, count, minutes, only, save, ...options }: MutationArguments,
  cores: readonly WebAssembly.Module[],
  originals: readonly Original[],
): Promise<number> {
  const begin = performance.now();
  const watched = new Watched();
  const inspection = options.inspect ? new Inspection(options.judgeEvery) : undefined;
  watch(watched);
  const isOver = () => minutes !== undefined && performance.now() - begin > minutes * 60000;
  const first = only ?? start;
  const end = only === undefined ? start + count : only + 1;
  const known = inspection === undefined || only !== undefined ? [] : INSPECTED;
  for (const seed of seedsFrom(known, first, end)) {
    if (isOver()) break;
    watched.seed = seed;
    // The core with assertions is slower: every fourth mutant.
    const core = cores[seed % 4 === 0 ? 0 : 1] as WebAssembly.Module;
    if (await runOne(seed, { core, originals, inspection }, only !== undefined, save)) watched.passed++;
    else watched.failed++;
  }
  inspection?.close();
  const seconds = (performance.now() - begin) / 1000;
  const { passed, failed } = watched;
  console.log(
    Object.entries(inspection?.verdicts ?? progress)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  );
  const { user, system } = process.cpuUsage();
  const rate = (time: number) => ((passed + failed) / time).toFixed(0);
  console.log(
    `${rate(seconds)} mutants a second, ${rate((user + system) / 1e6)} of its own time, ${seconds.toFixed(0)} s`,
  );
  console.log(`${passed} passed, ${failed} failed`);
  return failed;
}

/** Those that failed once come first. */
function* seedsFrom(known: readonly number[], first: number, end: number): Generator<number> {
  yield* known;
  for (let seed = first; seed < end; seed++) yield seed;
}

interface Setting {
  readonly core: WebAssembly.Module;
  readonly originals: readonly Original[];
  readonly inspection: Inspection | undefined;
}

/** Whether nothing was wrong. */
async function runOne(
  seed: number,
  { core, originals, inspection }: Setting,
  tell: boolean,
  save: string | undefined,
): Promise<boolean> {
  const random = new Random(seed);
  const original = drawOriginal(random, originals);
  const { bytes, changes } = mutate(random, original.bytes, original.layout);
  const text = () => `${original.name}\n    ${changes.join('\n    ')}`;
  if (tell) console.log(`mutant ${seed}: ${text()}`);
  if (save !== undefined) writeFileSync(save, bytes);
  try {
    const ended = new Promise<never>((_, reject) => {
      endTrial = reject;
    });
    const trial =
      inspection?.tryMutant(core, bytes, seed % FRESH_EVERY === 0) ??
      tryMutant(core, random, { original, bytes }, progress);
    await Promise.race([trial, ended]);
    return true;
  } catch (error) {
    console.log(`mutant ${seed} failed: ${(error as Error).message}\n  ${text()}`);
    const mode = inspection === undefined ? '' : ' --inspect';
    console.log(`  again: npm run mutate --${mode} --seed ${seed} --save FILE`);
    return false;
  }
}
