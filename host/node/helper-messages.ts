/** What the thread of a ring and its helper say to each other. */
import type { MessagePort } from 'node:worker_threads';
import type { CompressionType } from '../codec/codec.js';
import type { ImageFacts } from '../image-facts.js';
import type { ErrorRecord } from './error-record.js';
import type { MayOpen } from './may-open.js';

/** To a helper thread: serve an image, with `data.port` transferred; or end, when no image is left. */
export type HelperThreadOrder = { type: 'serve'; number: number; data: HelperData } | { type: 'end' };

/** From a helper thread: it is done with the image of this number. */
export interface HelperThreadReport {
  ended: number;
}

/** What a helper does for an image; `port` has to be transferred. */
export interface HelperData {
  /** Orders come in, reports go out. The helper ends when the other side closes it. */
  port: MessagePort;
  /** Of the ring, for a Waker: it is woken after each report. */
  wakeDescriptor: number;
  /** The image file, which stays the ring thread's. Compressed data is read from it. */
  descriptor: number;
  /** That is open past the page cache. */
  direct?: boolean | undefined;
  /** What lies behind the image, when something does: it is opened at once, and a report says how that went. */
  backing?: BackingData;
}

/** How the files behind an image are opened. */
export interface BackingData {
  /** Of the image: names of files are relative to it. */
  path: string;
  facts: ImageFacts;
  /** The image will be written. */
  write: boolean;
  /** Files that may be opened, as paths. Default: none. */
  mayOpen?: MayOpen;
  /** Past the page cache. */
  direct?: boolean;
  /** Layers at most; default: the library's. */
  chainDepth?: number;
}

/** What a helper can do. Numbers are bytes. */
export type HelperJob =
  /** The `length` bytes from `sourceOffset` on of the cluster whose compressed data is in the image. */
  | {
      kind: 'decompress';
      type: CompressionType;
      clusterSize: number;
      hostOffset: number;
      sourceLength: number;
      sourceOffset: number;
      length: number;
    }
  /** The `length` bytes from `offset` on of the disk behind the image. */
  | { kind: 'readBacking'; offset: number; length: number };

/** To the helper. A lane is memory for the result of one job at a time, numbered from 0. */
export type HelperOrder =
  /** From now on the lane is this memory. */
  | { type: 'lane'; lane: number; memory: SharedArrayBuffer }
  /** Carry out the job and put the result at the start of the lane. */
  | { type: 'job'; lane: number; job: HelperJob }
  /** Write what the image holds into what lies behind it: at most so many bytes a second, 0 for as many as can be. */
  | { type: 'commit'; bytesPerSecond: number }
  /** End the jobs under way and let everything go. */
  | { type: 'close' };

/** From the helper. */
export type HelperReport =
  | { type: 'done'; lane: number }
  | { type: 'failed'; lane: number; error: ErrorRecord }
  /** What lies behind the image is open, or why not. Before any other report. */
  | { type: 'backing'; error: ErrorRecord | undefined }
  /** The commit has ended, well or badly; what lies behind the image can be read again. */
  | { type: 'committed'; error: ErrorRecord | undefined }
  /** Nothing of the image is used any more. */
  | { type: 'closed' };
