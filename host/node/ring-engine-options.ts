/** What the loop of a serving thread is made from. */
import type { CoreConfiguration } from '../core-instance.js';
import type { CorralError } from '../errors.js';
import type { Addon } from './addon.js';
import type { CoreSharing } from './core-sharing.js';
import type { BackingData, HelperData } from './helper-messages.js';
import type { RequestMeter } from './request-meter.js';

export interface RingEngineOptions {
  addon: Addon;
  core: WebAssembly.Module;
  /** The image file; stays the caller's, who must not write to it otherwise. */
  descriptor: number;
  writable: boolean;
  fileLength: number;
  zeroBeyondEnd: boolean;
  /** Request slots 0 to guestCapacity - 1 are for guest requests; one more is kept for control requests. */
  guestCapacity: number;
  /** Bytes of the metadata cache. */
  cacheSize: number;
  /** The image's external data file, as open as the image; without it images that have one are refused by name. */
  dataFile?: { descriptor: number; length: number };
  /** A flush of the files does nothing: who says so bears the loss of all of it with the machine. */
  ignoresFlushes?: boolean;
  /** How the core is to treat the image, where that is not as its header says. */
  treatment?: Treatment;
  /** The files are open past the page cache. */
  direct?: boolean;
  /** For what is more than file I/O; without it, what needs it is refused by name. */
  helper?: HelperOptions;
  /** Counts the kernel's requests. */
  meter?: RequestMeter;
  /** This thread's part of a core that several threads share; `core` is the module for that, then. */
  sharing?: CoreSharing | undefined;
}

export type Treatment = Pick<CoreConfiguration, 'lazyRefcounts' | 'keepDiscarded' | 'passDiscard' | 'overlapChecks'>;

/** The thread that decompresses, and reads what lies behind the image. Images that need none never start it. */
export interface HelperOptions {
  /** Starts the thread, with `data.port` transferred (`startHelperThread`). Called between two turns, at most once. */
  start(data: HelperData): void;
  /** Jobs at once; each holds memory for its result. Default: 8. */
  jobs?: number;
  /** How to open what lies behind the image; without it images with a backing file are refused by name. */
  backing?: BackingData;
}

/** What happens besides requests of the kernel, which the engine answers by itself. Called between two turns. */
export interface RingEngineHandlers {
  /** Somebody woke the ring. */
  onControl?(): void;
  /** A request of the kernel is answered with an error; this is why. */
  onFailure?(error: CorralError): void;
  /** The ublk queue is over; `errno` is 0 when it was stopped in order. */
  onQueueStopped?(errno: number): void;
}
