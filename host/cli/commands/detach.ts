/** `corral detach`: asks a device's server to end, and waits until device and server are gone. */

import { closeSync, constants, openSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { systemErrorCode } from '../../errors.js';
import { refuseSwap } from '../../node/swap-use.js';
import { detachUblkDevice, type UblkListEntry } from '../../node/ublk-control.js';
import { countArgument } from '../arguments.js';
import { deviceNumber, findDevices, isGone } from '../devices.js';
import { askLive, type Live, liveImage } from '../live.js';
import { flag, value } from '../option-table.js';
import { CommandError, reasonOf } from '../output.js';
import { defineVerb, oneOperand } from '../verb.js';

/** Value of UblkInfo.state. */
const LIVE = 1;
/** Milliseconds between two looks. */
const POLL = 20;
/** Seconds. A server that has a lot to write to a slow disk needs a while. */
const PATIENCE = 60;
const LONGEST_TIMEOUT = 86_400;
/** Milliseconds for a server to end once its device is gone; it may have others. */
const FAREWELL = 5_000;

export const detach = defineVerb({
  about: 'Ends the server of a ublk block device, or of images over NBD, in order, and waits until it is gone.',
  operands: 'DEVICE|ADDRESS',
  options: {
    force: flag('--force', 'also when the device is mounted or in use otherwise, or NBD has clients'),
    timeout: value('--timeout SECONDS', 'for requests under way (default: 60)', (given) =>
      countArgument(given, 'timeout', 1, LONGEST_TIMEOUT),
    ),
  },
  run: ({ values, operands }) =>
    detachDevice(oneOperand(operands, 'Expecting one device (/dev/ublkbN, or N) or NBD address'), values),
});

interface Options {
  force: boolean;
  timeout: number | undefined;
}

async function detachDevice(name: string, { force, timeout = PATIENCE }: Options): Promise<void> {
  const image = liveImage(name);
  if (image !== undefined) return endServer(image, { force, timeout });
  const id = deviceNumber(name);
  const device = (await findDevices()).find((candidate) => candidate.id === id);
  if (device === undefined) throw new CommandError(`There is no ublk device '${name}' (see corral list)`);
  if (!force && isInUse(device)) {
    throw new CommandError(`${device.node} is in use: unmount it first (--force detaches it all the same)`);
  }
  await refuseSwap(id).catch((error: unknown) => {
    throw new CommandError(`Cannot detach ${device.node}: ${reasonOf(error)}`, 1, { cause: error });
  });
  const { serverPid, state } = device;
  // The process of a device that is not live is dead: its number may be somebody else's by now.
  if (state !== LIVE || !signal(serverPid, 'SIGTERM')) return detachUblkDevice(id);
  if (!(await comesTrue(() => isGone(id), timeout * 1000))) {
    throw new CommandError(
      `${device.node} is still there after ${timeout} s: process ${serverPid}, which serves it, does not end`,
    );
  }
  // Its locks on the image end with it.
  await comesTrue(() => !signal(serverPid, 0), FAREWELL);
}

/** All images of an NBD server go with it. */
async function endServer(live: Live, { force, timeout = PATIENCE }: Options): Promise<void> {
  const about = `Could not end the server of '${live.name}'`;
  const { pid, features } = (await askLive(live, { verb: 'stat' }, about)) as {
    pid: number;
    features: { clients: number };
  };
  if (!force && features.clients > 0) {
    throw new CommandError(`${live.name} has clients: disconnect them first (--force ends it all the same)`);
  }
  await askLive(live, { verb: 'stop', timeout: timeout * 1000 }, about);
  if (await comesTrue(() => !signal(pid, 0), timeout * 1000)) return;
  throw new CommandError(
    `${live.name} is still there after ${timeout} s: process ${pid}, which serves it, does not end`,
  );
}

/** What is mounted cannot be opened exclusively. */
function isInUse({ node }: UblkListEntry): boolean {
  try {
    closeSync(openSync(node, constants.O_RDONLY | constants.O_EXCL));
    return false;
  } catch (error) {
    return systemErrorCode(error) === 'EBUSY';
  }
}

/** False when there is no such process. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, name);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ESRCH') return false;
    throw new CommandError(`No permission to end process ${pid}, which serves the device`, 1, { cause: error });
  }
}

async function comesTrue(condition: () => boolean, milliseconds: number): Promise<boolean> {
  for (const end = Date.now() + milliseconds; Date.now() < end; await wait(POLL)) if (condition()) return true;
  return condition();
}
