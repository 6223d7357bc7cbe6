/** Comparing long stretches of bytes: `toEqual` takes seconds for a megabyte. */

import { expect } from 'vitest';

/** Fails with the first place where the two differ; `context` goes into the message. */
export function expectSameBytes(found: Uint8Array, expected: Uint8Array, context = ''): void {
  if (Buffer.compare(found, expected) === 0) return;
  let index = 0;
  while (index < found.length && found[index] === expected[index]) index++;
  const detail = `${context} byte ${index}: found ${found[index]}, expected ${expected[index]}`;
  expect.fail(`${detail}; lengths ${found.length} and ${expected.length}`);
}
