/** The control socket of a device or of served images, for its owner alone: what can be done while they are served. */
import { chmodSync } from 'node:fs';
import { lstat, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { cacheFacts } from '../cache-size.js';
import { CorralError } from '../errors.js';
import type { ImageFacts } from '../image-facts.js';
import {
  type CacheAnswer,
  type ControlAnswer,
  LONGEST_LINE,
  parseRequest,
  snapshotToJson,
  toAnswer,
} from './control-protocol.js';
import { summarize } from './request-summary.js';
import { ensureRunFolder, runFolder } from './run-folder.js';
import { checkBitmapChange } from './ublk-bitmaps.js';
import type { UblkDevice } from './ublk-device.js';
import type { UblkEngineStatistics } from './ublk-verbs.js';

/** Connections at once. */
const MAXIMUM_CONNECTIONS = 16;
/** Milliseconds for a request to arrive. */
const PATIENCE = 60_000;

/** What the socket speaks for. */
export type ControlledDevice = Pick<
  UblkDevice,
  | 'node'
  | 'size'
  | 'diskSize'
  | 'snapshots'
  | 'createSnapshot'
  | 'deleteSnapshot'
  | 'resize'
  | 'flush'
  | 'bitmaps'
  | 'changeBitmap'
  | 'commit'
  | 'setCacheSize'
  | 'requests'
  | 'queueDepth'
  | 'handOver'
  | 'stop'
> & {
  readonly features: object;
  /** Undefined for a raw disk. */
  readonly info: Pick<ImageFacts, 'clusterSize' | 'extendedL2'> | undefined;
  statistics(): Promise<CacheCounters>;
};

type CacheCounters = Pick<UblkEngineStatistics, 'cacheSize' | 'cacheHits' | 'cacheMisses' | 'cacheEvictions'>;

/** The image that a request is about, by its name; undefined: the only one, or the first. Throws a CorralError. */
export type FindControlled = (image: string | undefined) => ControlledDevice;

export interface ControlServer extends AsyncDisposable {
  readonly path: string;
  /** Takes the socket away; requests under way are still answered. */
  close(): Promise<void>;
}

/** Where the socket of a device is. */
export function controlPath(id: number): string {
  return join(runFolder(), `ublkb${id}.sock`);
}

/** Rejects with ERR_PERMISSION where others could come between. One that a dead server left is replaced. */
export async function serveControl(device: ControlledDevice & { readonly id: number }): Promise<ControlServer> {
  await ensureRunFolder();
  const path = controlPath(device.id);
  await rm(path, { force: true });
  return serveAt(path, (image) => {
    if (image === undefined) return device;
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'A device has one image' });
  });
}

/**
 * The same for images beside whose own socket nobody else has a server.
 *
 * @throws CorralError ERR_EXISTS when something is there that is no socket
 */
export async function serveControlAt(path: string, find: FindControlled): Promise<ControlServer> {
  const there = await lstat(path).catch(() => undefined);
  if (there !== undefined && !there.isSocket()) throw new CorralError('ERR_EXISTS', { path });
  await rm(path, { force: true });
  return serveAt(path, find);
}

async function serveAt(path: string, find: FindControlled): Promise<ControlServer> {
  // Who has asked everything may close that half: the answers still come.
  const server = createServer({ allowHalfOpen: true }, (socket) => converse(socket, find));
  server.maxConnections = MAXIMUM_CONNECTIONS;
  await listen(server, path);
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    // Node removes the socket's name with it.
    closing ??= new Promise((resolve) => void server.close(() => resolve()));
    return closing;
  };
  // A connection that idles must not keep the process.
  server.unref();
  return { path, close, [Symbol.asyncDispose]: close };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: Error) => reject(new CorralError('ERR_IO', { path, reason: error.message })));
    // Private from its first moment: it is made during this call. A worker has no say in the process's mask.
    const mask = isMainThread ? process.umask(0o177) : undefined;
    try {
      server.listen({ path, exclusive: true }, () => {
        if (mask === undefined) chmodSync(path, 0o600);
        resolve();
      });
    } finally {
      if (mask !== undefined) process.umask(mask);
    }
  });
}

function converse(socket: Socket, find: FindControlled): void {
  let text = '';
  let answering = Promise.resolve();
  socket.unref();
  socket.setEncoding('utf8');
  socket.setTimeout(PATIENCE, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('data', (piece: string) => {
    text += piece;
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      answering = answering.then(async () => {
        socket.setTimeout(0);
        const answer = await carryOut(line, find);
        if (socket.writable) socket.write(`${JSON.stringify(answer)}\n`);
        socket.setTimeout(PATIENCE);
      });
    }
    if (text.length > LONGEST_LINE) socket.destroy();
  });
  socket.on('end', () => void answering.then(() => socket.end()));
}

/** Never rejects. */
async function carryOut(line: string, find: FindControlled): Promise<ControlAnswer> {
  try {
    return { result: (await resultOf(line, find)) ?? null };
  } catch (error) {
    return toAnswer(error);
  }
}

async function resultOf(line: string, find: FindControlled): Promise<unknown> {
  const request = parseRequest(line);
  const device = find(request.image);
  switch (request.verb) {
    case 'snapshot-list':
      return (await device.snapshots()).map(snapshotToJson);
    case 'snapshot-create':
      return device.createSnapshot({ name: request.name, icount: 0n });
    case 'snapshot-delete':
      return device.deleteSnapshot({ id: request.id, name: request.name });
    case 'resize':
      return device.resize(request.size);
    case 'flush':
      return device.flush();
    case 'bitmap-list':
      return (await device.bitmaps()).map(({ nameBytes, ...facts }) => facts);
    case 'bitmap':
      return device.changeBitmap(checkBitmapChange(request));
    case 'commit':
      return device.commit({ keep: request.keep, bytesPerSecond: request.bytesPerSecond });
    case 'cache':
      if (request.size !== undefined) await device.setCacheSize(request.size);
      return cacheOf(device);
    case 'stat': {
      const { node, size, diskSize, queueDepth, features } = device;
      const about = { device: node, pid: process.pid, size, diskSize, queueDepth, features };
      return { ...about, requests: summarize(device.requests()), engine: await device.statistics() };
    }
    case 'hand-over':
      return device.handOver({ timeout: request.timeout });
    case 'stop':
      return device.stop({ timeout: request.timeout });
  }
}

async function cacheOf(device: ControlledDevice): Promise<CacheAnswer> {
  const { info, diskSize } = device;
  if (info === undefined) throw new CorralError('ERR_UNSUPPORTED', { reason: 'A raw disk has no metadata' });
  const {
    cacheSize: size,
    cacheHits: hits,
    cacheMisses: misses,
    cacheEvictions: evictions,
  } = await device.statistics();
  return { size, ...cacheFacts({ ...info, virtualSize: diskSize }, size), hits, misses, evictions };
}
