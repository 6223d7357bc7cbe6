/** What the main thread and the worker that serves a ublk device say to each other. */
import type { CorralErrorCode, CorralErrorDetails } from '../errors.js';
import { CorralError } from '../errors.js';
import type { ImageFacts } from '../image-facts.js';

/** What a worker is started with. */
export interface UblkWorkerData {
  path: string;
  readOnly: boolean;
  queueDepth: number;
  cacheSize: number;
  core: WebAssembly.Module;
  /** One Int32: not 0 once the process ends and the worker has to leave its loop at once. */
  abandoned: SharedArrayBuffer;
}

/** To the worker. It looks for them when its ring is woken. */
export type UblkOrder =
  /** Serve the device that was added. */
  | { type: 'attach'; deviceId: number; queueDepth: number; maxIoBytes: number; deviceSize: number }
  /** There will be no device: close the image. */
  | { type: 'close' };

/** From the worker, in this order; `failed` or `closed` is the last one. */
export type UblkReport =
  /** The image is open; `wakeDescriptor` is for a Waker. */
  | { type: 'opened'; facts: ImageFacts; wakeDescriptor: number }
  /** Every tag is fetching: the device can be started. */
  | { type: 'attached' }
  /** Something went wrong; the image is closed as well as it can be. */
  | { type: 'failed'; error: ErrorRecord }
  /** The image is flushed and closed. */
  | { type: 'closed' };

/** A CorralError as it travels between threads. */
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
