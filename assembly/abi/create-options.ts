/** Options of a Create request; the host writes them at the start of the page. */
@unmanaged
export class CreateOptions {
  /** Bytes of the virtual disk, a multiple of 512. */
  virtualSize: u64 = 0;
  /** 2 or 3. */
  version: u32 = 0;
  /** log2 of the cluster size in bytes, 9 to 21. */
  clusterBits: u32 = 0;
  /** log2 of the refcount width in bits; this engine creates 4 (16 bits). */
  refcountOrder: u32 = 0;
  /** Bit 0: lazy refcounts wanted (compatible feature bit only). */
  flags: u32 = 0;
}
