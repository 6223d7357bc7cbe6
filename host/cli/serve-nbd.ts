/** Images over NBD for as long as the process is not asked to stop. */

import { basename } from 'node:path';
import { CorralError } from '../errors.js';
import { LayerPools } from '../layer-pool.js';
import type { NbdExport } from '../nbd/export.js';
import type { TcpAddress } from '../nbd/listen-address.js';
import type { NbdServer, NbdServerOptions } from '../nbd/server.js';
import type { TlsOptionsOfServer } from '../nbd/tls.js';
import type { MetricsAddress } from '../node/metrics-address.js';
import type { Format } from './arguments.js';
import { Closers } from './closers.js';
import { type Disk, openDisk } from './disk.js';
import { readImageName } from './image-name.js';
import { controlBeside } from './live.js';
import { CommandError, reasonOf, type Terminal } from './output.js';
import type { MeteredExport, ServedImage } from './served-image.js';
import type { StopSignal } from './signals.js';

/** What a server takes at most when nothing else is said, as in host/nbd: clients, and requests of each at one time. */
const DEFAULT_CLIENTS = 16;
const REQUESTS_OF_A_CLIENT = 128;

export interface ServeNbdOptions {
  readonly readOnly: boolean;
  readonly noBacking: boolean;
  /** Headers of images may be written into raw disks. */
  readonly noGuard: boolean;
  /** The names are lists of options. */
  readonly imageOpts: boolean;
  readonly format: Format | undefined;
  /** Read this internal snapshot. */
  readonly snapshot: string | undefined;
  readonly bitmaps: readonly string[];
  /** Of the only image. Default: the file's name. */
  readonly exportName: string | undefined;
  /** Default: one in a folder of this user's. */
  readonly socket: string | undefined;
  readonly tcp: TcpAddress | undefined;
  readonly tls: TlsOptionsOfServer | undefined;
  readonly clients: number | undefined;
  /** Where to serve metrics of all images. */
  readonly metrics: MetricsAddress | undefined;
  /** End when the last client has left. */
  readonly once: boolean;
}

/** An image that is served. */
export interface Served {
  /** Bytes. */
  readonly size: number;
  readonly uri: string;
  readonly readOnly: boolean;
}

/** Serves the images until the signal, or until the last client has left. Throws `CommandError`. */
export async function serveOverNbd(
  paths: readonly string[],
  options: ServeNbdOptions,
  {
    stop,
    terminal,
    onReady,
  }: { stop: StopSignal; terminal: Terminal; onReady(server: NbdServer, exported: readonly Served[]): void },
): Promise<void> {
  await using opened = new Closers();
  const exports: NbdExport[] = [];
  const metered: MeteredExport[] = [];
  const layers = new LayerPools();
  for (const path of paths) {
    const disk = opened.add(await openServed(path, options, layers));
    const one = await exportDisk(disk, options.exportName ?? basename(disk.name.path), options);
    exports.push('control' in one ? one.exported : one);
    if ('control' in one) metered.push(one);
  }
  const names = exports.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) < index);
  if (twice !== undefined) throw new CommandError(`Two of the images are called '${twice}'`);
  const { serveNbd } = await import('../nbd/server.js');
  let leave = (): void => {};
  const idle = new Promise<void>((resolve) => {
    leave = resolve;
  });
  const server = await serveNbd(exports, {
    ...(await placeOf(options, names[0] ?? '')),
    ...(options.tls === undefined ? {} : { tls: options.tls }),
    ...(options.clients === undefined ? {} : { maximumConnections: options.clients }),
    ...(options.once ? { onIdle: leave } : {}),
    log: (line) => terminal.note(line),
  });
  let ended = (): void => {};
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const images = metered.map(({ exported: { name }, control }): readonly [string, ServedImage] => {
    const about = {
      node: server.uriOf(name),
      get clients() {
        return server.connectionCount;
      },
      stop: () => {
        leave();
        return end;
      },
    };
    return [name, control(about)];
  });
  const beside = await serveBeside(server, { names, images: new Map(images) }, options, terminal).catch(
    async (error: unknown) => {
      await server.close();
      throw error;
    },
  );
  onReady(
    server,
    exports.map(({ size, name, readOnly }) => ({ size, uri: server.uriOf(name), readOnly })),
  );
  await Promise.race([stopped(stop), idle]);
  try {
    await server.close();
  } finally {
    ended();
    for (const one of beside) void one.close();
  }
}

interface Beside {
  close(): Promise<void>;
}

/** Control and metrics. Where there can be no control socket, all the rest is served. */
async function serveBeside(
  { socketPath }: NbdServer,
  { names, images }: { names: readonly string[]; images: ReadonlyMap<string, ServedImage> },
  { metrics }: ServeNbdOptions,
  terminal: Terminal,
): Promise<Beside[]> {
  const beside: Beside[] = [];
  if (metrics !== undefined) {
    const { serveMetrics } = await import('../node/metrics-server.js');
    const measured = serveMetrics(metrics, () => [...images.values()]).catch((error: unknown) => {
      throw new CommandError(`Cannot serve metrics: ${reasonOf(error)}`, 1, { cause: error });
    });
    beside.push(await measured);
  }
  if (socketPath === undefined) return beside;
  const { serveControlAt } = await import('../node/control-server.js');
  const find = (name = names[0] ?? ''): ServedImage => {
    const image = images.get(name);
    if (image !== undefined) return image;
    const reason = names.includes(name) ? `'${name}' is a raw disk` : `No image '${name}' is served here`;
    throw new CorralError('ERR_NOT_FOUND', { reason });
  };
  try {
    beside.push(await serveControlAt(controlBeside(socketPath), find));
  } catch (error) {
    terminal.note(`The images cannot be controlled while they are served: ${reasonOf(error)}`);
  }
  return beside;
}

async function placeOf({ socket, tcp }: ServeNbdOptions, name: string): Promise<NbdServerOptions> {
  if (tcp !== undefined) return { tcp };
  const { defaultSocketPath } = await import('../nbd/socket-path.js');
  return { socketPath: socket ?? (await defaultSocketPath(name)) };
}

async function openServed(path: string, options: ServeNbdOptions, layers: LayerPools): Promise<Disk> {
  const { readOnly, noBacking, imageOpts, format, snapshot } = options;
  const isReadOnly = readImageName(path, { imageOpts, format }).generic.readOnly === true;
  const write = !readOnly && !isReadOnly && snapshot === undefined;
  const disk = await openDisk(path, { write, noBacking, imageOpts, format, snapshot, mayReadOnly: true, layers });
  if (disk.name.window !== undefined) {
    await disk.close();
    throw new CommandError(`Could not open '${path}': A part of a file is not served`);
  }
  if (disk.format === 'raw' && disk.name.format === undefined) {
    await disk.close();
    throw new CommandError(`Could not open '${path}': Image is not in qcow2 format (-f raw serves it as it is)`);
  }
  return disk;
}

async function exportDisk(
  disk: Disk,
  name: string,
  { bitmaps, noGuard, clients }: ServeNbdOptions,
): Promise<NbdExport | MeteredExport> {
  if (disk.image === undefined) {
    if (bitmaps.length > 0) throw new CommandError(`'${disk.name.path}' is a raw disk: it has no bitmaps`);
    const { exportRaw } = await import('../nbd/raw-export.js');
    return exportRaw(disk.file, { name, size: disk.size, guard: !noGuard });
  }
  const { exportImage } = await import('../nbd/image-export.js');
  const { meterExport } = await import('./served-image.js');
  try {
    const exported = await exportImage(disk.image, { name, bitmaps });
    const queueDepth = (clients ?? DEFAULT_CLIENTS) * REQUESTS_OF_A_CLIENT;
    const { path, backing, dataFile } = disk.name;
    const asNamed = backing === undefined && dataFile === undefined;
    const overlay = asNamed ? ({ path, mayOpen: 'any' } as const) : undefined;
    return meterExport(disk.image, exported, { queueDepth, overlay });
  } catch (error) {
    throw new CommandError(`Cannot export '${disk.name.path}': ${reasonOf(error)}`, 1, { cause: error });
  }
}

function stopped({ signal }: StopSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
