/** What the page asks of its worker, and what it gets: every message between the two. Offsets and lengths are bytes. */

import type { BitmapFacts } from '../../host/bitmaps.js';
import type { CheckReport } from '../../host/check-report.js';
import type { FileKind } from '../../host/filesystem/file-system.js';
import type { ImageFacts } from '../../host/image-facts.js';
import type { PolicyName } from '../../host/inspect/policy.js';
import type { InspectReport } from '../../host/inspect/report.js';

/** What is looked at: the disk as it is, or the snapshot with this number in the table. */
export type State = number | undefined;

/** Where the bytes come from. Of several files, `top` is the one to be looked at; default: the one that no other names. */
export type Source =
  | { readonly kind: 'files'; readonly files: readonly File[]; readonly top?: number | undefined }
  | { readonly kind: 'url'; readonly url: string };

/** Why something could not be done, and what the person in front of the page can do. */
export interface Problem {
  readonly code: string;
  readonly message: string;
  readonly advice: string | undefined;
}

/** A file of the backing chain, the image on top first. */
export interface ChainLink {
  readonly name: string;
  readonly format: string;
  /** Bytes of its disk; undefined when it is not there. */
  readonly size: number | undefined;
  readonly present: boolean;
}

export interface SnapshotRow {
  readonly id: string;
  readonly name: string;
  readonly date: Date;
  readonly diskSize: number;
  readonly vmStateSize: number;
}

/** Something in the file that tells of the program that made it. */
export interface Trace {
  readonly what: string;
  readonly tells: string;
}

export interface Overview {
  readonly name: string;
  readonly fileLength: number;
  readonly format: 'qcow2' | 'raw' | 'other';
  /** Of the header; undefined for other formats, and when it cannot be read. */
  readonly facts: ImageFacts | undefined;
  /** Bytes of the disk; 0 when nobody knows. */
  readonly size: number;
  /** What the disk holds can be read. */
  readonly readable: boolean;
  /** Why the image, or some of it, cannot be read. */
  readonly problems: readonly Problem[];
  readonly chain: readonly ChainLink[];
  /** All files that were given, and which of them is on top. */
  readonly files: readonly string[];
  readonly top: number;
  readonly snapshots: readonly SnapshotRow[];
  readonly bitmaps: readonly BitmapFacts[];
  readonly traces: readonly Trace[];
}

export const GUEST_KINDS = ['unallocated', 'zero', 'data', 'compressed', 'backing'] as const;
export type GuestKind = (typeof GUEST_KINDS)[number];

export const HOST_KINDS = [
  'free',
  'leaked',
  'header',
  'l1',
  'l2',
  'refcounts',
  'snapshots',
  'bitmaps',
  'encryption',
  'data',
  'compressed',
  'snapshot data',
] as const;
export type HostKind = (typeof HOST_KINDS)[number];

export type Space = 'guest' | 'host';

export interface MapRequest {
  readonly space: Space;
  readonly state: State;
  readonly from: number;
  readonly to: number;
  /** Cells of the picture at most. */
  readonly cells: number;
}

/** A picture: how many bytes of each kind each cell has. */
export interface MapPicture {
  readonly from: number;
  readonly to: number;
  /** Bytes of a cell; the last one may be shorter. */
  readonly cellLength: number;
  readonly count: number;
  /** `count` rows of as many numbers as there are kinds. */
  readonly weights: Float64Array;
  /** Bytes of each kind between `from` and `to`. */
  readonly totals: readonly number[];
  /** Up to here it is known. */
  readonly known: number;
}

/** A stretch of the disk. */
export interface GuestExtent {
  readonly offset: number;
  readonly length: number;
  readonly kind: GuestKind;
  /** 0: the image itself. */
  readonly depth: number;
  /** Where its bytes begin in the file of that layer. */
  readonly hostOffset: number | undefined;
}

export interface ExtentPage {
  /** Extents that are known; the last ones may still be missing. */
  readonly total: number;
  readonly complete: boolean;
  readonly extents: readonly GuestExtent[];
}

/** A field or an entry that lies in the bytes that are shown. */
export interface NamedBytes {
  readonly offset: number;
  readonly length: number;
  readonly name: string;
  /** What it says, in words. */
  readonly value: string;
  /** Where it points to. */
  readonly target?: { readonly space: Space; readonly offset: number } | undefined;
}

/** What lies at an offset. */
export interface Place {
  readonly space: Space;
  readonly kind: GuestKind | HostKind;
  /** The stretch of this kind. */
  readonly offset: number;
  readonly length: number;
  readonly title: string;
  /** Names of fields and entries near the offset. */
  readonly names: readonly NamedBytes[];
  /** The other side of it: the host bytes of a guest offset, or the other way round. */
  readonly other?: { readonly space: Space; readonly offset: number } | undefined;
}

/** Ranges as pairs of offset and length, cut off at a number of them; all are counted. */
export interface Ranges {
  readonly pairs: Float64Array;
  readonly count: number;
  readonly bytes: number;
}

/** A part of the disk. */
export interface PartitionRow {
  /** As Linux counts; 0 for a disk without a partition table. */
  readonly number: number;
  readonly offset: number;
  readonly length: number;
  readonly type: string;
  /** As the partition table calls it. */
  readonly name: string;
  /** Undefined when its files cannot be listed. */
  readonly fileSystem: string | undefined;
  readonly label: string;
  /** What one should know of the file system, a line each. */
  readonly remarks: readonly string[];
  /** Why its files cannot be listed. */
  readonly problem: Problem | undefined;
}

export interface PartitionList {
  /** `mbr`, `gpt`, or none. */
  readonly table: string | undefined;
  readonly partitions: readonly PartitionRow[];
}

export interface FileRow {
  readonly name: string;
  readonly kind: FileKind;
  readonly size: number;
  /** Milliseconds since 1970 began. */
  readonly modified: number | undefined;
}

export interface FileList {
  /** Folders first. */
  readonly rows: readonly FileRow[];
  /** All that there are; the list may be cut off. */
  readonly count: number;
}

export interface FileDescription {
  readonly kind: FileKind;
  readonly size: number;
  /** Where a link leads, as it says. */
  readonly target: string | undefined;
}

interface StateRequest {
  readonly state: State;
}

interface RangeRequest extends StateRequest {
  readonly offset: number;
  readonly length: number;
}

interface PathRequest extends StateRequest {
  readonly partition: number;
  readonly path: string;
}

/** What the worker can do: argument and answer of each. */
export interface Methods {
  open: [Source, Overview];
  verdict: [{ readonly policy: PolicyName }, InspectReport];
  check: [undefined, CheckReport];
  map: [MapRequest, MapPicture];
  extents: [StateRequest & { readonly first: number; readonly count: number }, ExtentPage];
  place: [{ readonly space: Space; readonly state: State; readonly offset: number; readonly length: number }, Place];
  read: [{ readonly space: Space } & RangeRequest, Uint8Array<ArrayBuffer>];
  /** What has to be written for a raw copy, from an offset on: the next stretch that is not known to be zeros. */
  nextData: [{ readonly state: State; readonly offset: number }, { offset: number; length: number } | undefined];
  changes: [{ readonly state: number }, Ranges];
  bitmap: [{ readonly index: number }, Ranges];
  partitions: [StateRequest, PartitionList];
  list: [PathRequest, FileList];
  describe: [PathRequest, FileDescription];
  /** Fewer bytes where the file ends. */
  readFile: [PathRequest & { readonly offset: number; readonly length: number }, Uint8Array<ArrayBuffer>];
}

export type MethodName = keyof Methods;
export type Argument<M extends MethodName> = Methods[M][0];
export type Answer<M extends MethodName> = Methods[M][1];

/** How far something is. `partial` is what an answer looks like so far. */
export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly partial?: unknown;
}

export type Request =
  | { readonly id: number; readonly method: MethodName; readonly argument: unknown }
  | { readonly cancel: number };

export type Response = {
  readonly id: number;
  /** Bytes of files that the worker has read since it began. */
  readonly bytesRead: number;
} & ({ readonly answer: unknown } | { readonly problem: Problem } | { readonly progress: Progress });
