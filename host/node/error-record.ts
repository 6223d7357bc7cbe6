/** Errors as they travel between threads. */
import type { CorralErrorCode, CorralErrorDetails } from '../errors.js';
import { CorralError } from '../errors.js';

/** A CorralError, in what can be cloned. */
export interface ErrorRecord {
  code: CorralErrorCode;
  details: CorralErrorDetails;
}

export function toRecord(error: unknown): ErrorRecord {
  if (!(error instanceof CorralError)) {
    const reason = error instanceof Error ? error.message : String(error);
    return { code: 'ERR_INTERNAL', details: { reason, stack: error instanceof Error ? error.stack : undefined } };
  }
  const { cause, ...details } = error.details;
  return { code: error.code, details: cause instanceof Error ? { ...details, cause: plainError(cause) } : details };
}

export function fromRecord({ code, details }: ErrorRecord): CorralError {
  return new CorralError(code, details);
}

/** Only the kinds of Error that the language knows can be cloned, and only their text: what is more is lost anyway. */
function plainError({ message }: Error): Error {
  return new Error(message);
}
