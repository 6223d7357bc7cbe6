/** What the main thread and the worker that serves a ublk device say to each other. */
import type { SharedParts } from './core-sharing.js';
import type { DiskFacts } from './disk-facts.js';
import type { ErrorRecord } from './error-record.js';
import type { BackingData, HelperData } from './helper-messages.js';
import type { MayOpen } from './may-open.js';
import type { Treatment } from './ring-engine-options.js';
import type { UblkDataPath } from './ublk-features.js';
import type { UblkVerb } from './ublk-verbs.js';

/** What a worker is started with. */
export interface UblkWorkerData {
  path: string;
  format: 'qcow2' | 'raw';
  /** Of a raw disk: no header of an image gets into its first sector. */
  guard: boolean;
  /** What a data file's name is relative to. */
  folder: string;
  readOnly: boolean;
  queueDepth: number;
  cacheSize: number;
  /** Jobs that the helper thread has at once. */
  helperJobs: number;
  /** Files that may be opened because the image names them. */
  mayOpen: MayOpen | undefined;
  /** An image with a backing file is refused. */
  noBacking: boolean;
  /** Flushes do nothing. */
  ignoresFlushes: boolean;
  /** Files are opened past the page cache. */
  direct: boolean;
  treatment: Treatment;
  /** Queues, each with a thread; more than one share a core. */
  queues: number;
  core: WebAssembly.Module;
  /** Of `meterMemory`: the kernel's requests are counted in it. */
  meter: SharedArrayBuffer;
  /** One Int32: not 0 once the process ends and the worker has to leave its loop at once. */
  abandoned: SharedArrayBuffer;
  /** One Int32, a WorkerGate. */
  gate: SharedArrayBuffer;
}

/** A thread takes longer to start than to open an image: it may start before it is known whether the image may be opened. */
export enum WorkerGate {
  /** The worker waits. */
  Closed = 0,
  /** It opens the image. */
  Open = 1,
  /** It ends, and has touched nothing. */
  Leave = 2,
}

/** What the thread of a further queue is started with: it joins in a core that another one has opened. */
export interface UblkQueueWorkerData {
  path: string;
  /** The queue, which is the thread's number, too. */
  queue: number;
  shared: SharedImage;
  attach: UblkOrder & { type: 'attach' };
  /** Descriptor of the char device, which the first thread has opened. */
  device: number;
  helperJobs: number;
  ignoresFlushes: boolean;
  direct: boolean;
  meter: SharedArrayBuffer;
  core: WebAssembly.Module;
  abandoned: SharedArrayBuffer;
}

/** The open image, for threads that share it. The descriptors are the first thread's, which ends last. */
export interface SharedImage {
  parts: SharedParts;
  descriptor: number;
  writable: boolean;
  dataDescriptor: number | undefined;
  backing: BackingData | undefined;
}

/** To the worker. It looks for them when its ring is woken. */
export type UblkOrder =
  /** Serve the device that was added. */
  | {
      type: 'attach';
      deviceId: number;
      queueDepth: number;
      maxIoBytes: number;
      deviceSize: number;
      unmap: boolean;
      durable: boolean;
      dataPath: UblkDataPath;
      /** Each queue's thread stays on the processors whose requests it gets. */
      pinned: boolean;
    }
  /** Carry this out beside the guest's requests; `verbEnded` answers. */
  | { type: 'verb'; number: number; verb: UblkVerb }
  /** There will be no device: close the image. */
  | { type: 'close' }
  /** The thread of another queue has failed. */
  | { type: 'queueLost'; error: ErrorRecord }
  /** The helper thread of this number ended; why. */
  | { type: 'helperLost'; number: number; reason: string };

/** From the worker, in this order where nothing else is said; `failed` or `closed` is the last one. */
export type UblkReport =
  /** The image needs a helper thread: start it with this. At any time. */
  | { type: 'helper'; data: HelperData; number: number }
  /** The image is open; `wakeDescriptor` is for a Waker. */
  | { type: 'opened'; facts: DiskFacts; wakeDescriptor: number; shared: SharedImage | undefined }
  /** Every tag is fetching: the device can be started. */
  | { type: 'attached'; wakeDescriptor: number; device: number }
  /** A verb has ended: its result, or why there is none. */
  | { type: 'verbEnded'; number: number; result?: unknown; error?: ErrorRecord }
  /** The kernel gets an error, and this is why; `missed` more came too fast to be told. `broken`: the engine itself failed. */
  | { type: 'ioError'; error: ErrorRecord; missed: number; broken: boolean }
  /** Something went wrong; the image is closed as well as it can be. */
  | { type: 'failed'; error: ErrorRecord }
  /** The image is flushed and closed. */
  | { type: 'closed' };
