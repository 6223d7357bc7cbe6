/**
 * The only allocator: addresses are handed out upwards from the end of the static data, once, while the instance is
 * configured. Nothing is ever freed, so nothing can leak, and the memory never grows after that.
 */

const PAGE_BITS: u32 = 16;

@unmanaged
export class Arena {
  /** Next free address. */
  next: usize = 0;
  /** End of the memory that exists. */
  end: usize = 0;
}

/** Starts an arena behind the static data. The record itself is the first thing in it. */
export function openArena(): Arena {
  const start: usize = (__heap_base + 63) & ~usize(63);
  const arena = changetype<Arena>(start);
  arena.next = start + 64;
  arena.end = usize(memory.size()) << PAGE_BITS;
  return arena;
}

/** Takes `length` zeroed bytes at a multiple of 64, a cache line; 0 when the memory cannot grow that far. */
export function take(arena: Arena, length: u64): usize {
  const wanted: u64 = u64(arena.next) + ((length + 63) & ~u64(63));
  if (wanted > u64(arena.end)) {
    const pages: u64 = (wanted - u64(arena.end) + 0xffff) >> PAGE_BITS;
    if (pages > 65536 || memory.grow(i32(pages)) < 0) return 0;
    arena.end = usize(memory.size()) << PAGE_BITS;
  }
  const address = arena.next;
  arena.next = usize(wanted);
  return address;
}
