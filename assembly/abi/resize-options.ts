/** Bits of `ResizeOptions.flags`. */
export enum ResizeFlag {
  /** The disk may become smaller, and what lies behind its new end be lost. */
  Shrink = 1,
  /** What is new must be made zeros, all of it: a backing file would show through. */
  ZeroNew = 2,
  /** Only whether it would be refused: nothing changes. */
  AskOnly = 4,
}

/** Options of a Resize request; the host writes them at the start of the page. */
@unmanaged
export class ResizeOptions {
  /** Bytes of the virtual disk, a multiple of 512. */
  virtualSize: u64 = 0;
  /** ResizeFlag bits. */
  flags: u32 = 0;
  reserved: u32 = 0;
}
