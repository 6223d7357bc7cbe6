/** Rounding to powers of two. None of these overflow for values below 2^63. */

export function alignUp(value: u64, size: u64): u64 {
  return (value + size - 1) & ~(size - 1);
}

export function isAligned(value: u64, size: u64): bool {
  return (value & (size - 1)) === 0;
}

/** How many units of 2^bits bytes hold `value` bytes. */
export function unitsFor(value: u64, bits: u32): u64 {
  return (value >> bits) + u64((value & ((u64(1) << bits) - 1)) !== 0);
}
