/** Verbs on the name of what a server of ours serves, a block device or an image over NBD: they go to its control socket. */

import { lstatSync } from 'node:fs';
import { resolve } from 'node:path';
import { askServer, hasControl } from '../node/control-client.js';
import type { ControlRequest } from '../node/control-protocol.js';
import { controlPath } from '../node/control-server.js';
import { deviceNumber } from './devices.js';
import { CommandError, reasonOf } from './output.js';

/** Something that is served. */
export interface Live {
  /** For messages. */
  readonly name: string;
  /** Its server's control socket. */
  readonly control: string;
  /** Of a block device. */
  readonly id: number | undefined;
  /** Which of the images of an NBD server; undefined: its first. */
  readonly image: string | undefined;
}

/** Where the control socket of an NBD server on this socket is. */
export function controlBeside(socketPath: string): string {
  return `${resolve(socketPath)}.control`;
}

/** What a path names that is served; undefined when it is none, and to be opened as any other file. */
export function liveDevice(path: string, format?: string | undefined): Live | undefined {
  if (format !== undefined) return undefined;
  if (!/^\/dev\/ublkb\d{1,9}$/.test(path)) return liveImage(path);
  const id = deviceNumber(path);
  return hasControl(id) ? deviceOf(id) : undefined;
}

/** What a name stands for that can be nothing but something that is served. Throws `CommandError`. */
export function mustBeLive(name: string): Live {
  return liveImage(name) ?? deviceOf(deviceNumber(name));
}

/** An image over NBD, by its address (`nbd+unix:///NAME?socket=PATH`) or its server's socket. */
export function liveImage(name: string): Live | undefined {
  const address = /^nbds?\+unix:\/\/\/([^?]*)\?(?:.*&)?socket=([^&]+)/.exec(name);
  if (address === null) return isSocket(name) ? imageOf(name, name, '') : undefined;
  const [, image = '', socket = ''] = address;
  try {
    return imageOf(name, decodeURIComponent(socket), decodeURIComponent(image));
  } catch (error) {
    throw new CommandError(`'${name}' is no address: ${reasonOf(error)}`, 1, { cause: error });
  }
}

function imageOf(name: string, socket: string, image: string): Live {
  return { name, control: controlBeside(socket), id: undefined, image: image === '' ? undefined : image };
}

function deviceOf(id: number): Live {
  return { name: `/dev/ublkb${id}`, control: controlPath(id), id, image: undefined };
}

function isSocket(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true;
}

/** What the server answers. Throws `CommandError`, its line beginning with `about`. */
export async function askLive({ control, image }: Live, request: ControlRequest, about: string): Promise<unknown> {
  try {
    return await askServer(control, image === undefined ? request : { ...request, image });
  } catch (error) {
    throw new CommandError(`${about}: ${reasonOf(error)}`, 1, { cause: error });
  }
}
