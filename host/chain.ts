/**
 * What lies behind an image: a chain of layers, each a raw file or an image with an engine of its own, so that a hostile
 * layer reaches nobody else's memory. Layers are only read.
 */

import { type BlockFile, stretchesOf } from './block-file.js';
import { CorralError } from './errors.js';
import type { ImageFacts } from './image-facts.js';
import type { Layer } from './layer.js';
import type { LayerPool } from './layer-pool.js';
import type { MapExtent } from './map-extent.js';
import { closedGate, type OpenGate } from './open-gate.js';

export type { Layer } from './layer.js';

const SECTOR = 512;
/** Layers below an image, unless the caller wants another limit. */
const DEFAULT_DEPTH = 64;
const MAGIC = [0x51, 0x46, 0x49, 0xfb];

/** An image that is a layer: what the chain needs of it. */
export interface LayerImage {
  readonly size: number;
  readonly guestFile: BlockFile | undefined;
  readonly backing: Layer | undefined;
  read(offset: number, target: Uint8Array): Promise<void>;
  map(options: { offset: number; length: number; signal?: AbortSignal }): AsyncIterable<MapExtent>;
  close(): Promise<void>;
}

/** What lies behind an image, whatever the image says. */
export interface BackingChoice {
  /** Opens the file, which then belongs to the chain. Default: the name in the image goes through the gate. */
  open?: (() => Promise<BlockFile>) | undefined;
  /** Default: what the image says. */
  format?: 'raw' | 'qcow2' | undefined;
  /** What lies behind that; null: nothing. Default: what it names. */
  backing?: BackingChoice | null | undefined;
}

export interface ChainOptions {
  /** Opens what images name. Default: nothing may be opened. */
  gate?: OpenGate | undefined;
  /**
   * What lies behind the image instead of what it names; null: nothing, and it reads as zeros. Only for images that name
   * something. Default: what they name.
   */
  backing?: BackingChoice | null | undefined;
  /** Layers behind the image at most, default 64. */
  chainDepth?: number;
  /** Where layers are that other images have opened, too. Default: the image opens its own. */
  layers?: LayerPool | undefined;
}

/** How the backing file of one image is opened. */
export interface Link {
  readonly options: ChainOptions;
  /** The file of the image that names it. */
  readonly file: Pick<BlockFile, 'identity' | 'location'>;
  /** The naming image will be written. */
  readonly write: boolean;
  /** Identities of the files above the naming image. */
  readonly above: readonly string[];
  /** How many layers lie above the backing file. */
  readonly depth: number;
  /** Opens a file as an image that only is read, with these files above it; on failure the file stays open. */
  openImage(file: BlockFile, above: readonly string[], depth: number): Promise<LayerImage>;
}

/**
 * Opens what lies behind an image. Rejects with what the gate rejects, ERR_TOO_LARGE when the chain is too long,
 * ERR_IMAGE_CORRUPT when it is a loop, ERR_UNSUPPORTED for other formats.
 */
export async function openBacking(facts: ImageFacts, link: Link): Promise<Layer> {
  const { options, write, depth } = link;
  const name = facts.backingFile as string;
  const limit = options.chainDepth ?? DEFAULT_DEPTH;
  if (depth > limit) throw tooLong(limit, name);
  const format = options.backing?.format ?? facts.backingFormat;
  if (write && format === undefined) {
    throw new CorralError('ERR_UNSUPPORTED', {
      reason: `The image names its backing file '${name}' without a format, and cannot be written because of that`,
      field: 'backing file',
    });
  }
  try {
    const layer = await openNamed(name, format, link);
    await checkShared(layer, name, link);
    return layer;
  } catch (error) {
    throw ofBackingFile(error, name, link);
  }
}

async function openNamed(name: string, wanted: string | undefined, link: Link): Promise<Layer> {
  const { options, file } = link;
  const above = file.identity === undefined ? link.above : [...link.above, file.identity];
  const gate = options.gate ?? closedGate;
  const named = { role: 'backing file', name, from: file.location, write: false, above } as const;
  const opened = await (options.backing?.open?.() ?? gate(named));
  const { identity } = opened;
  if (identity !== undefined && above.includes(identity)) {
    await opened.close();
    throw loop(name);
  }
  const open = (): Promise<Layer> => openLayer(opened, wanted, above, link);
  // A chain that the caller has put together is nobody else's.
  if (options.layers === undefined || identity === undefined || options.backing?.backing !== undefined) return open();
  let isOurs = false;
  const shared = options.layers.share(`${wanted ?? 'any'} ${identity}`, () => {
    isOurs = true;
    return open();
  });
  return isOurs ? shared : shared.finally(() => opened.close());
}

/** The file is closed when it is no layer. */
async function openLayer(
  opened: BlockFile,
  wanted: string | undefined,
  above: readonly string[],
  { openImage, depth }: Link,
): Promise<Layer> {
  try {
    const format = wanted ?? (await probe(opened));
    if (format === 'raw') return rawLayer(opened, await opened.size());
    if (format !== 'qcow2') throw new CorralError('ERR_UNSUPPORTED', { reason: `Unknown driver '${format}'` });
    return imageLayer(opened, await openImage(opened, above, depth + 1));
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Whoever opened a layer that is shared had other files above it. */
async function checkShared(layer: Layer, name: string, { options, above, file, depth }: Link): Promise<void> {
  if (options.layers === undefined) return;
  const limit = options.chainDepth ?? DEFAULT_DEPTH;
  const behind = layersOf(layer);
  const isLoop = [layer, ...behind].some(
    ({ identity }) => identity !== undefined && (identity === file.identity || above.includes(identity)),
  );
  if (depth + behind.length <= limit && !isLoop) return;
  await layer.close();
  throw isLoop ? loop(name) : tooLong(limit, name);
}

/**
 * The error of a chain says which of its files is meant, and which image names it: the caller has only heard of the one on
 * top. What has been said by a layer further down stays.
 */
function ofBackingFile(error: unknown, name: string, { file, depth }: Link): unknown {
  if (!(error instanceof CorralError) || error.details.backingFile !== undefined) return error;
  const { details } = error;
  // A gate that opens nothing says so in its own words.
  if (depth === 1 && details.field === 'backing file') return error;
  const of = file.location === undefined ? '' : ` of '${file.location}'`;
  const reason = `Could not open backing file '${name}'${of}: ${details.reason ?? error.message}`;
  return new CorralError(error.code, { ...details, path: undefined, reason, backingFile: name, cause: error });
}

/** Every layer behind an image, the nearest first. */
export function layersOf(image: { readonly backing: Layer | undefined }): Layer[] {
  const layers: Layer[] = [];
  for (let layer = image.backing; layer !== undefined; layer = layer.backing) layers.push(layer);
  return layers;
}

function tooLong(limit: number, name: string): CorralError {
  const reason = `The backing chain has more than ${limit} layers`;
  return new CorralError('ERR_TOO_LARGE', { reason, backingFile: name });
}

/** The error about a chain that comes back to one of its own files. */
export function loop(name: string): CorralError {
  return new CorralError('ERR_IMAGE_CORRUPT', {
    reason: `Backing file '${name}' creates an infinite loop`,
    field: 'backing file',
    backingFile: name,
  });
}

/** Reading only: whoever may write a raw disk could make it pass for an image. */
async function probe(file: BlockFile): Promise<'raw' | 'qcow2'> {
  const start = new Uint8Array(MAGIC.length);
  await file.read(0, start);
  return MAGIC.every((byte, index) => start[index] === byte) ? 'qcow2' : 'raw';
}

/** A disk consists of sectors: behind the end of the file, the last one is zeros. */
function rawLayer(file: BlockFile, fileLength: number): Layer {
  const length = Math.ceil(fileLength / SECTOR) * SECTOR;
  return {
    format: 'raw',
    length,
    location: file.location,
    identity: file.identity,
    backing: undefined,
    file,
    read: (offset, target) => readInside(offset, target, fileLength, (at, inside) => file.read(at, inside)),
    async *map({ offset, length: wanted }) {
      for (const { offset: start, length: count, hole } of stretchesOf(file, { offset, length: wanted, fileLength })) {
        yield { offset: start, length: count, kind: hole ? 'zero' : 'data', allocated: true, hostOffset: start };
      }
    },
    close: () => file.close(),
  };
}

function imageLayer(file: BlockFile, image: LayerImage): Layer {
  const length = image.size;
  return {
    format: 'qcow2',
    length,
    location: file.location,
    identity: file.identity,
    backing: image.backing,
    file: image.guestFile,
    read: (offset, target) => readInside(offset, target, length, (at, inside) => image.read(at, inside)),
    map: (options) => image.map(options),
    close: () => image.close(),
  };
}

/** What lies behind the end of a layer's disk is zeros. */
async function readInside(
  offset: number,
  target: Uint8Array,
  length: number,
  read: (offset: number, target: Uint8Array) => Promise<void>,
): Promise<void> {
  const inside = Math.max(0, Math.min(target.length, length - offset));
  target.fill(0, inside);
  if (inside > 0) await read(offset, target.subarray(0, inside));
}
