/** What the client asks the engine's worker for, and what it gets. Everything here passes as a message. Numbers are bytes. */

import type { CreateImageOptions } from '../host/create-image.js';
import type { ImageFacts } from '../host/image-facts.js';
import type { InspectOptions } from '../host/inspect/inspect.js';
import type { MapExtent } from '../host/map-extent.js';
import type { OpenOptions } from '../host/open-options.js';
import type { SnapshotSelection } from '../host/snapshot-record.js';
import type { Source } from './source.js';

/** Name of a worker that is to serve an engine. */
export const WORKER_NAME = 'corral-engine';

/** What may be said of a server, of what passes as a message. */
export interface RemoteHttpOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly cacheSize?: number;
  readonly readAhead?: number;
  readonly requests?: number;
  readonly maximumBytes?: number;
  readonly maximumDownload?: number;
  readonly timeout?: number;
}

/** The files that images may name: those that somebody chose, or those of a folder. */
export interface Surroundings {
  /** By their names. */
  readonly files?: readonly (File | FileSystemFileHandle)[];
  readonly directory?: FileSystemDirectoryHandle;
  /** Where the image is in that folder; default: its name, in the folder itself. */
  readonly location?: string;
  /** Where to ask which files on servers may be opened: the client's, which puts it here when it was given `allowBacking`. */
  readonly addresses?: MessagePort;
}

type PassingOptions = 'inspect' | 'tablesOnly' | 'cache' | 'cacheSize' | 'checkSize' | 'lazyRefcounts' | 'chainDepth';

export interface RemoteOpenOptions extends Surroundings, Pick<OpenOptions, PassingOptions> {
  /** Only of files of the origin private file system. Default: reading. */
  readonly write?: boolean;
  /** Read this internal snapshot: an id or else a name. */
  readonly snapshot?: string | SnapshotSelection;
  /** Nothing lies behind the image, whatever it names: it reads as zeros there. */
  readonly noBacking?: boolean;
  readonly http?: RemoteHttpOptions;
}

/** A layer behind an image. */
export interface RemoteLayer {
  readonly format: 'raw' | 'qcow2';
  readonly length: number;
  readonly location: string | undefined;
}

export interface Opened {
  readonly image: number;
  readonly info: ImageFacts;
  /** The nearest first. */
  readonly layers: readonly RemoteLayer[];
  /** What the server does that is not as it should be. */
  readonly warnings: readonly string[];
}

/** A stretch of the disk; `depth` is 0 where the image itself says so, 1 for its backing file, and so on. */
export interface RemoteExtent extends MapExtent {
  readonly depth: number;
}

/** A part of a map, and where it goes on; undefined at the end. */
export interface MapPart {
  readonly extents: readonly RemoteExtent[];
  readonly next: number | undefined;
}

export type RemoteCreateOptions = Omit<CreateImageOptions, 'core' | 'data' | 'signal'>;

export interface RemoteInspectOptions extends Omit<InspectOptions, 'core' | 'codec' | 'signal' | 'now'> {
  readonly http?: RemoteHttpOptions;
}

export interface ConvertRequest {
  readonly source: Source;
  /** Default: qcow2 where the file begins as one, else raw. */
  readonly sourceFormat?: 'raw' | 'qcow2';
  /** Emptied first. */
  readonly target: FileSystemFileHandle;
  readonly format: 'raw' | 'qcow2';
  /** How the source is opened. */
  readonly open?: RemoteOpenOptions;
  /** What the new image is to be. */
  readonly create?: Omit<
    RemoteCreateOptions,
    'virtualSize' | 'backingFile' | 'backingFormat' | 'dataFile' | 'dataFileRaw'
  >;
  /** The clusters of a new image are compressed, where that makes them smaller; with zlib only. Default: false. */
  readonly compress?: boolean;
  /** 1 to 9; default: 6. */
  readonly compressionLevel?: number;
}

export interface CommitRequest {
  /** In the origin private file system, as all of these. */
  readonly overlay: FileSystemFileHandle;
  /** Its backing file. */
  readonly base: FileSystemFileHandle;
  /** What lies further behind. */
  readonly surroundings?: Surroundings;
}
