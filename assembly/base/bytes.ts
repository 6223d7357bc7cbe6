/** Big-endian numbers in the module's memory: everything QCOW2 stores is big-endian. */

export function loadU16(address: usize): u16 {
  return bswap<u16>(load<u16>(address));
}

export function loadU32(address: usize): u32 {
  return bswap<u32>(load<u32>(address));
}

export function loadU64(address: usize): u64 {
  return bswap<u64>(load<u64>(address));
}

export function storeU16(address: usize, value: u16): void {
  store<u16>(address, bswap<u16>(value));
}

export function storeU32(address: usize, value: u32): void {
  store<u32>(address, bswap<u32>(value));
}

export function storeU64(address: usize, value: u64): void {
  store<u64>(address, bswap<u64>(value));
}
