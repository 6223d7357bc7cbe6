/** The order of scattered accesses: each block once, no two neighbours near each other. */

/**
 * Multiples of this, modulo the number of blocks, visit every block before any one twice.
 *
 * @param {number} blockCount
 * @returns {number}
 */
export function scatteringStep(blockCount) {
  let step = Math.floor((blockCount * 61803) / 100000) | 1;
  while (greatestCommonDivisor(step, blockCount) !== 1) step += 2;
  return step;
}

/**
 * @param {number} a
 * @param {number} b
 * @returns {number}
 */
function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
