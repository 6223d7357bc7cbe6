/** The one error class of the library. Codes are stable; messages are for people and may change. */

export type CorralErrorCode =
  | 'ERR_NOT_QCOW2'
  | 'ERR_UNSUPPORTED'
  | 'ERR_IMAGE_CORRUPT'
  | 'ERR_READ_ONLY'
  | 'ERR_OUT_OF_RANGE'
  | 'ERR_IO'
  | 'ERR_NO_SPACE'
  | 'ERR_CANCELLED'
  | 'ERR_LOCKED'
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_TOO_LARGE'
  | 'ERR_BROKEN'
  | 'ERR_CLOSED'
  | 'ERR_PERMISSION'
  | 'ERR_NOT_FOUND'
  | 'ERR_EXISTS'
  | 'ERR_NO_UBLK'
  | 'ERR_ADDON_MISSING'
  | 'ERR_INTERNAL';

/** Where and what, as far as it is known. Offsets are bytes; values of the image are BigInts because they may be anything. */
export interface CorralErrorDetails {
  /** What is wrong, for people: becomes the message. */
  reason?: string;
  /** The file, socket or device that it is about. */
  path?: string;
  /** Structure of the image, in the specification's words: "header", "L2 table", … */
  structure?: string;
  /** The same as `Structure` of the ABI. */
  structureCode?: number;
  /** Field or property of it. */
  field?: string;
  /** The same as `Field` of the ABI. */
  fieldCode?: number;
  hostOffset?: bigint;
  guestOffset?: bigint;
  found?: bigint;
  limit?: bigint;
  /** The host's own error, when there is one. */
  cause?: unknown;
  /** System call error name (`ENOENT`), device, operation: whatever the thrower knows. */
  [key: string]: unknown;
}

/** What an error says when its thrower gave no reason. */
const DEFAULT_REASONS: Readonly<Record<CorralErrorCode, string>> = {
  ERR_NOT_QCOW2: 'Image is not in qcow2 format',
  ERR_UNSUPPORTED: 'Not supported',
  ERR_IMAGE_CORRUPT: 'Image is corrupt',
  ERR_READ_ONLY: 'The image is open read-only',
  ERR_OUT_OF_RANGE: 'The request reaches beyond the end of the disk',
  ERR_IO: 'Input/output error',
  ERR_NO_SPACE: 'No space left on device',
  ERR_CANCELLED: 'The operation was cancelled',
  ERR_LOCKED: 'Another process is using the image',
  ERR_INVALID_ARGUMENT: 'Invalid argument',
  ERR_TOO_LARGE: 'Too large',
  ERR_BROKEN: 'An earlier failure stopped all writing',
  ERR_CLOSED: 'The image is closed',
  ERR_PERMISSION: 'Permission denied',
  ERR_NOT_FOUND: 'No such file or directory',
  ERR_EXISTS: 'File exists',
  ERR_NO_UBLK: 'This kernel offers no ublk devices',
  ERR_ADDON_MISSING: 'The native addon is not built',
  ERR_INTERNAL: 'Internal error',
};

/** Every failure that a caller can meet. The message is `'PATH': REASON`, or the reason alone. */
export class CorralError extends Error {
  override readonly name = 'CorralError';

  constructor(
    readonly code: CorralErrorCode,
    readonly details: CorralErrorDetails = {},
  ) {
    const reason = details.reason ?? DEFAULT_REASONS[code];
    const options = details.cause === undefined ? undefined : { cause: details.cause };
    super(details.path === undefined ? reason : `'${details.path}': ${reason}`, options);
  }
}

/** The `code` of an error of the system, such as `ENOSPC`; undefined for anything else. */
export function systemErrorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** The storage is full, or its user's share of it: the write may succeed when something else has been removed. */
export function isNoSpace(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/** As thrown when an `AbortSignal` ended the call. */
export function cancelled(signal?: AbortSignal): CorralError {
  return new CorralError('ERR_CANCELLED', { cause: signal?.reason });
}
