/** When V8 makes machine code of a program that runs for a second. */

import { setFlagsFromString } from 'node:v8';

/** V8's of Node 20, 22 and 24, which know the flag. */
const KNOWN = /^1[123]\./;
/** Bytes of V8's own code that a function runs until it is worth it; V8 says a tenth of it. */
const BUDGET = 1_350_000;

/**
 * Lets functions run ten times as long before machine code is made of them. That is done by other threads, and who copies a few
 * gibibytes has better use for the processors: the code would be ready when it is over. Longer runs get it as before.
 */
export function deferMachineCode(): void {
  if (KNOWN.test(process.versions.v8)) setFlagsFromString(`--interrupt-budget=${BUDGET}`);
}
