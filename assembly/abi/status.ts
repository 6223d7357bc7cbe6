/** How a request, an operation or a step of the core ended. Values are stable: hosts and the addon compare them. */
export enum Status {
  /** Done. */
  Ok = 0,
  /** Only inside the core: the step parked its request and is started over later. Never crosses the boundary. */
  Miss = 1,
  /** The request itself makes no sense (kind, alignment, slot in use). */
  Invalid = 2,
  /** The request reaches beyond the virtual disk. */
  OutOfRange = 3,
  /** A write to an image that was opened for reading. */
  ReadOnly = 4,
  /** The file does not begin with the QCOW2 magic. */
  NotQcow2 = 5,
  /** A valid feature of the format that this engine does not do yet, or an unknown incompatible one. */
  Unsupported = 6,
  /** The image contradicts itself or the specification. */
  Corrupt = 7,
  /** The host reported an input/output error. */
  InputOutput = 8,
  /** The host reported that the storage is full. */
  NoSpace = 9,
  /** The host cancelled the request. */
  Cancelled = 10,
  /** A limit of the configuration or of the format is too small for what was asked. */
  TooLarge = 11,
  /** An earlier failure left the state on disk unknown: every later write is refused. */
  Broken = 12,
  /** What the request names is not there. */
  NotFound = 13,
  /** What the request would make is there already. */
  Exists = 14,
}
