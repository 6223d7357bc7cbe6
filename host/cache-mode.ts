/** QEMU's cache modes: what stands between a write and the disk. */

/**
 * - `writeback`: the page cache; what was written is durable with the next flush. The default.
 * - `writethrough`: as that, and every write, of zeros too, and every discard is durable before it ends.
 * - `none`: past the page cache, straight to the disk; durable with the next flush, as disks have caches too.
 * - `directsync`: both.
 * - `unsafe`: flushes do nothing. A crash of the program alone loses nothing; one of the machine may ruin the image.
 */
export type CacheMode = 'writeback' | 'writethrough' | 'none' | 'directsync' | 'unsafe';

/** The file is to be opened past the page cache. */
export function isDirect(mode: CacheMode | undefined): boolean {
  return mode === 'none' || mode === 'directsync';
}

/** Every change is durable before it is answered. */
export function isWriteThrough(mode: CacheMode | undefined): boolean {
  return mode === 'writethrough' || mode === 'directsync';
}
