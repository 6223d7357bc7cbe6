/** What the main thread and the worker that serves a ublk device say to each other. */
import type { ImageFacts } from '../image-facts.js';
import type { ErrorRecord } from './error-record.js';
import type { HelperData } from './helper-messages.js';
import type { MayOpen } from './may-open.js';

/** What a worker is started with. */
export interface UblkWorkerData {
  path: string;
  readOnly: boolean;
  queueDepth: number;
  cacheSize: number;
  /** Jobs that the helper thread has at once. */
  helperJobs: number;
  /** Files that may be opened because the image names them. */
  mayOpen: MayOpen | undefined;
  /** An image with a backing file is refused. */
  noBacking: boolean;
  core: WebAssembly.Module;
  /** One Int32: not 0 once the process ends and the worker has to leave its loop at once. */
  abandoned: SharedArrayBuffer;
}

/** To the worker. It looks for them when its ring is woken. */
export type UblkOrder =
  /** Serve the device that was added. */
  | { type: 'attach'; deviceId: number; queueDepth: number; maxIoBytes: number; deviceSize: number }
  /** There will be no device: close the image. */
  | { type: 'close' }
  /** The helper thread of this number ended; why. */
  | { type: 'helperLost'; number: number; reason: string };

/** From the worker, in this order; `failed` or `closed` is the last one. */
export type UblkReport =
  /** The image needs a helper thread: start it with this. At any time. */
  | { type: 'helper'; data: HelperData; number: number }
  /** The image is open; `wakeDescriptor` is for a Waker. */
  | { type: 'opened'; facts: ImageFacts; wakeDescriptor: number }
  /** Every tag is fetching: the device can be started. */
  | { type: 'attached' }
  /** Something went wrong; the image is closed as well as it can be. */
  | { type: 'failed'; error: ErrorRecord }
  /** The image is flushed and closed. */
  | { type: 'closed' };
