/** Which of the protocol's error numbers a failure becomes. */
import { CorralError, type CorralErrorCode, systemErrorCode } from '../errors.js';
import { ErrorValue } from './protocol.js';

/** A request that the server itself refuses. The message is for the person at the client. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly value: ErrorValue;

  constructor(value: ErrorValue, message: string) {
    super(message);
    this.value = value;
  }
}

/** What an export throws; all codes that are not here are `Io`. */
const VALUES: Readonly<Partial<Record<CorralErrorCode, ErrorValue>>> = {
  ERR_READ_ONLY: ErrorValue.Perm,
  ERR_PERMISSION: ErrorValue.Perm,
  ERR_NO_SPACE: ErrorValue.Nospc,
  ERR_OUT_OF_RANGE: ErrorValue.Inval,
  ERR_INVALID_ARGUMENT: ErrorValue.Inval,
  ERR_TOO_LARGE: ErrorValue.Inval,
  // The protocol reserves its "not supported" for one special case and wants "invalid" for everything else.
  ERR_UNSUPPORTED: ErrorValue.Inval,
  ERR_CANCELLED: ErrorValue.Shutdown,
  ERR_CLOSED: ErrorValue.Shutdown,
};

/** Errors of the system that an export passes on as they are. */
const SYSTEM_VALUES: Readonly<Record<string, ErrorValue>> = {
  EPERM: ErrorValue.Perm,
  EACCES: ErrorValue.Perm,
  EROFS: ErrorValue.Perm,
  ENOSPC: ErrorValue.Nospc,
  EDQUOT: ErrorValue.Nospc,
  EFBIG: ErrorValue.Nospc,
};

/** The number a client is told, never `ErrorValue.None`. */
export function errorValueOf(failure: unknown): ErrorValue {
  if (failure instanceof RequestError) {
    return failure.value;
  }
  const value = failure instanceof CorralError ? VALUES[failure.code] : SYSTEM_VALUES[systemErrorCode(failure) ?? ''];
  return value ?? ErrorValue.Io;
}

/** What a failure says of itself, in one line. */
export function messageOf(failure: unknown): string {
  return (failure instanceof Error ? failure.message : String(failure)).replaceAll(/\s+/g, ' ');
}
