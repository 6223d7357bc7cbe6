/** What becomes of the space of clusters that a Preallocate request maps. */
export enum PreallocateMode {
  /** Nothing but the file's length: the space may be a hole. */
  Metadata = 1,
  /** It is allocated in the file: an operation WriteZeroes. */
  Allocated = 2,
  /** Zeros are written there: an operation Write. */
  Written = 3,
}

/** Options of a Preallocate request; the host writes them at the start of the page. */
@unmanaged
export class PreallocateOptions {
  /** PreallocateMode. */
  mode: u32 = 0;
  reserved: u32 = 0;
}
