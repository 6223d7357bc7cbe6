/** Images over NBD for as long as the process is not asked to stop. */

import { basename } from 'node:path';
import type { NbdExport } from '../nbd/export.js';
import type { TcpAddress } from '../nbd/listen-address.js';
import type { NbdServer, NbdServerOptions } from '../nbd/server.js';
import type { TlsOptionsOfServer } from '../nbd/tls.js';
import type { Format } from './arguments.js';
import { Closers } from './closers.js';
import { type Disk, openDisk } from './disk.js';
import { readImageName } from './image-name.js';
import { CommandError, reasonOf, type Terminal } from './output.js';
import type { StopSignal } from './signals.js';

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
  for (const path of paths) {
    const disk = opened.add(await openServed(path, options));
    exports.push(await exportDisk(disk, options.exportName ?? basename(disk.name.path), options));
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
  onReady(
    server,
    exports.map(({ size, name, readOnly }) => ({ size, uri: server.uriOf(name), readOnly })),
  );
  await Promise.race([stopped(stop), idle]);
  await server.close();
}

async function placeOf({ socket, tcp }: ServeNbdOptions, name: string): Promise<NbdServerOptions> {
  if (tcp !== undefined) return { tcp };
  const { defaultSocketPath } = await import('../nbd/socket-path.js');
  return { socketPath: socket ?? (await defaultSocketPath(name)) };
}

async function openServed(path: string, options: ServeNbdOptions): Promise<Disk> {
  const { readOnly, noBacking, imageOpts, format, snapshot } = options;
  const isReadOnly = readImageName(path, { imageOpts, format }).generic.readOnly === true;
  const write = !readOnly && !isReadOnly && snapshot === undefined;
  const disk = await openDisk(path, { write, noBacking, imageOpts, format, snapshot, mayReadOnly: true });
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

async function exportDisk(disk: Disk, name: string, { bitmaps, noGuard }: ServeNbdOptions): Promise<NbdExport> {
  if (disk.image === undefined) {
    if (bitmaps.length > 0) throw new CommandError(`'${disk.name.path}' is a raw disk: it has no bitmaps`);
    const { exportRaw } = await import('../nbd/raw-export.js');
    return exportRaw(disk.file, { name, size: disk.size, guard: !noGuard });
  }
  const { exportImage } = await import('../nbd/image-export.js');
  try {
    return await exportImage(disk.image, { name, bitmaps });
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
