/** A smaller plan that still fails: turns and steps are left out as long as that changes nothing. */

import type { Plan, Turn } from './plan.js';

/** The smallest plan found within `seconds` for which `fails` is true; it is true for `plan`. */
export async function shrink(plan: Plan, fails: (plan: Plan) => Promise<boolean>, seconds: number): Promise<Plan> {
  const end = performance.now() + seconds * 1000;
  const isOver = () => performance.now() > end;
  let smallest = plan;
  const attempt = async (turns: readonly Turn[]): Promise<boolean> => {
    const smaller = { ...smallest, turns };
    if (isOver() || !(await fails(smaller))) return false;
    smallest = smaller;
    return true;
  };

  // What comes after the failure is of no use; a turn that is left out changes whose turn the next one is, not what it does.
  for (let index = smallest.turns.length - 1; index >= 0; index--) await attempt(without(smallest.turns, index, 1));
  for (let index = smallest.turns.length - 1; index >= 0; index--) {
    for (let count = Math.ceil(stepsOf(smallest, index).length / 2); count >= 1; count = Math.floor(count / 2)) {
      for (let start = stepsOf(smallest, index).length - count; start >= 0; start -= count) {
        const turn = smallest.turns[index] as Turn;
        const steps = without(turn.steps, start, count);
        await attempt(smallest.turns.map((old) => (old === turn ? { ...turn, steps } : old)));
      }
    }
  }
  return smallest;
}

function stepsOf({ turns }: Plan, index: number): Turn['steps'] {
  return turns[index]?.steps ?? [];
}

function without<T>(list: readonly T[], start: number, count: number): T[] {
  return [...list.slice(0, start), ...list.slice(start + count)];
}
