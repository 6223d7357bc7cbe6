/** `npm run differential`: this engine and QEMU, side by side on the same images, until they disagree. */

import { parseArgs } from 'node:util';
import { Random } from '../simulator/random.js';
import { drawPlan } from './draw.js';
import type { Plan } from './plan.js';
import { runSequence } from './sequence.js';
import { shrink } from './shrink.js';

const SHRINK_SECONDS = 60;
const SEED_LIMIT = 2 ** 32;

interface Arguments {
  /** Go on for so long. */
  readonly minutes: number;
  /** Only this sequence. */
  readonly seed: number | undefined;
  /** The seed of the first one; the others follow. */
  readonly start: number;
}

process.exitCode = await main();

async function main(): Promise<number> {
  const parsed = readArguments(process.argv.slice(2));
  if (typeof parsed === 'string') {
    console.error(`differential: ${parsed}`);
    return 1;
  }
  const { minutes, seed, start } = parsed;
  const begin = performance.now();
  const end = begin + minutes * 60000;
  let passed = 0;
  let failed = 0;
  console.log(seed === undefined ? `sequences from seed ${start} on` : `the sequence of seed ${seed}`);
  for (let next = seed ?? start; next === seed || (seed === undefined && performance.now() < end); next++) {
    if (await runSeed(next, seed !== undefined)) passed++;
    else failed++;
  }
  console.log(`${Math.round((performance.now() - begin) / 1000)} s`);
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** Whether both engines agreed. */
async function runSeed(seed: number, tell: boolean): Promise<boolean> {
  const plan = drawPlan(seed, new Random(seed));
  if (tell) console.log(JSON.stringify(plan.image));
  const failure = await failureOf(plan);
  if (failure === undefined) return true;
  console.log(`seed ${seed} failed: ${failure}`);
  console.log(`  again: npm run differential -- --seed ${seed}`);
  const smaller = await shrink(plan, async (smaller) => (await failureOf(smaller)) !== undefined, SHRINK_SECONDS);
  console.log(`  ${JSON.stringify(smaller.image)}`);
  for (const { by, atOnce, steps } of smaller.turns) {
    console.log(`  ${by}${atOnce ? ', all at once' : ''}: ${steps.map((step) => JSON.stringify(step)).join(' ')}`);
  }
  console.log(`  which says: ${await failureOf(smaller)}`);
  return false;
}

async function failureOf(plan: Plan): Promise<string | undefined> {
  try {
    await runSequence(plan);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function readArguments(args: string[]): Arguments | string {
  try {
    const { values } = parseArgs({
      args,
      options: { minutes: { type: 'string' }, seed: { type: 'string' }, start: { type: 'string' } },
    });
    const minutes = Number(values.minutes ?? '1');
    const seed = values.seed === undefined ? undefined : Number(values.seed);
    const start = values.start === undefined ? Math.floor(Math.random() * SEED_LIMIT) : Number(values.start);
    if (!(minutes > 0)) return '--minutes takes a number above 0';
    if (![seed ?? 0, start].every((value) => Number.isSafeInteger(value) && value >= 0))
      return 'a seed is a whole number';
    return { minutes, seed, start };
  } catch (error) {
    return (error as Error).message;
  }
}
