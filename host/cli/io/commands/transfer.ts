/** What reading and writing have in common: arguments, buffers, and the line about the end. */

import { requestErrorText } from '../../errno-text.js';
import type { Disk } from '../disk.js';
import { CommandFailure, UsageFailure } from '../failures.js';
import { type Report, reportText } from '../report.js';
import type { Session } from '../session.js';
import { LONGEST_REQUEST, numberArgument, SECTOR } from '../values.js';
import type { Words } from '../words.js';

/** Options that were given, the last value of each. */
export function optionMap({ options }: Words): ReadonlyMap<string, string> {
  return new Map(options.map(({ letter, value }) => [letter, value]));
}

/** The only two operands: where and how much. `limit` is said when it is too much. */
export function rangeOperands(
  operands: readonly string[],
  limit: string | undefined,
): { offset: number; length: number } {
  const [first, second] = operands;
  if (first === undefined || second === undefined || operands.length !== 2) throw new UsageFailure();
  const offset = numberArgument(first);
  const length = numberArgument(second);
  if (limit !== undefined && length > LONGEST_REQUEST) {
    throw new CommandFailure(`length cannot exceed ${LONGEST_REQUEST}${limit}, given ${second}`);
  }
  return { offset, length };
}

/** Where, and the lengths of several buffers; all in all. */
export function buffersOperands(operands: readonly string[]): { offset: number; length: number } {
  const [first, ...lengths] = operands;
  if (first === undefined || lengths.length === 0) throw new UsageFailure();
  const offset = numberArgument(first);
  let length = 0;
  for (const text of lengths) {
    const one = numberArgument(text);
    if (one > LONGEST_REQUEST) {
      throw new CommandFailure(`Argument '${text}' exceeds maximum size ${LONGEST_REQUEST}`);
    }
    if (one > LONGEST_REQUEST - length) {
      throw new CommandFailure(`The total number of bytes exceed the maximum size ${LONGEST_REQUEST}`);
    }
    length += one;
  }
  return { offset, length };
}

export function wholeSectors(value: number, name: string): void {
  if (value % SECTOR !== 0) throw new CommandFailure(`${value} is not a sector-aligned value for '${name}'`);
}

/** The disk that a command needs: that there is one was checked before. */
export function diskOf(session: Session): Disk {
  return session.disk as Disk;
}

/** How the end of a request is told. */
export interface Telling {
  readonly verb: string;
  /** Begins the line when the request fails: "readv failed". */
  readonly failure: string;
  readonly offset: number;
  readonly length: number;
  readonly quiet: boolean;
  readonly terse: boolean;
}

/**
 * Carries out a request, and prints how it went. `judge` looks at what came, prints what it wants, and says whether it is
 * right. Resolves to whether all is well.
 */
export async function perform(
  session: Session,
  telling: Telling,
  work: () => Promise<void>,
  judge: () => boolean = () => true,
): Promise<boolean> {
  const { output } = session;
  const start = performance.now();
  try {
    await work();
  } catch (error) {
    if (process.env.CORRAL_DEBUG !== undefined) console.error(error);
    const corruption = session.disk?.corruption(error, telling.verb !== 'read');
    if (corruption !== undefined) output.note(corruption);
    output.print(`${telling.failure} failed: ${requestErrorText(error)}\n`);
    return false;
  }
  const elapsed = performance.now() - start;
  const right = judge();
  if (!telling.quiet) output.print(reportText({ ...telling, elapsed } satisfies Report));
  return right;
}
