/** `corral list`: the ublk devices of this machine. */

import type { Command } from 'commander';
import { outputArgument } from '../arguments.js';
import { type Device, deviceIds, findDevice, requireUblk } from '../devices.js';
import { formatJson, humanSize } from '../output.js';
import type { Context } from '../program.js';

const STATES = ['dead', 'live', 'quiesced', 'failing'];

export function list(command: Command, context: Context): void {
  command
    .description('Lists the ublk block devices of this machine, whoever serves them.')
    .option('--output <kind>', 'human or json', outputArgument, 'human')
    .action(async ({ output }: { output: 'human' | 'json' }) => {
      const devices = await findDevices();
      context.terminal.print(output === 'json' ? `${formatJson(devices.map(jsonDevice))}\n` : table(devices));
    });
}

async function findDevices(): Promise<Device[]> {
  const ids = deviceIds();
  // No device needs no driver: a script may ask on any machine.
  if (ids.length === 0) return [];
  requireUblk('list devices');
  const devices = await Promise.all(ids.map(findDevice));
  return devices.filter((device) => device !== undefined);
}

function jsonDevice({ id, path, size, readOnly, info }: Device) {
  return { device: path, id, size, 'read-only': readOnly, pid: info.serverPid, state: STATES[info.state] ?? 'unknown' };
}

function table(devices: readonly Device[]): string {
  if (devices.length === 0) return '';
  const rows = [['DEVICE', 'SIZE', 'ACCESS', 'STATE', 'PID']];
  for (const { path, size, readOnly, info } of devices) {
    rows.push([
      path,
      humanSize(size),
      readOnly ? 'read-only' : 'read-write',
      STATES[info.state] ?? 'unknown',
      String(info.serverPid),
    ]);
  }
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)) + 2);
  return rows.map((row) => `${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('')}\n`).join('');
}
