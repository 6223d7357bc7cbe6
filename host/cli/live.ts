/** Verbs on the name of a block device that a server of ours serves: they go to its control socket. */

import { askDevice, hasControl } from '../node/control-client.js';
import type { ControlRequest } from '../node/control-protocol.js';
import { deviceNumber } from './devices.js';
import { CommandError, reasonOf } from './output.js';

/** The number of a served device that a path names; undefined when it is none, and to be opened as any other file. */
export function liveDevice(path: string, format?: string | undefined): number | undefined {
  if (format !== undefined || !/^\/dev\/ublkb\d{1,9}$/.test(path)) return undefined;
  const id = deviceNumber(path);
  return hasControl(id) ? id : undefined;
}

/** What the server answers. Throws `CommandError`, its line beginning with `about`. */
export async function askLive(id: number, request: ControlRequest, about: string): Promise<unknown> {
  try {
    return await askDevice(id, request);
  } catch (error) {
    throw new CommandError(`${about}: ${reasonOf(error)}`, 1, { cause: error });
  }
}
