/** `corral list`: the ublk devices of this machine. */

import type { Command } from 'commander';
import type { UblkListEntry } from '../../node/ublk-device.js';
import { outputArgument } from '../arguments.js';
import type { Context } from '../context.js';
import { findDevices } from '../devices.js';
import { formatJson, humanSize } from '../output.js';

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

function jsonDevice({ id, node, state, serverPid, parameters }: UblkListEntry) {
  const { size, readOnly } = parameters;
  return { device: node, id, size, 'read-only': readOnly, pid: serverPid, state: STATES[state] ?? 'unknown' };
}

function table(devices: readonly UblkListEntry[]): string {
  if (devices.length === 0) return '';
  const rows = [['DEVICE', 'SIZE', 'ACCESS', 'STATE', 'PID']];
  for (const { node, state, serverPid, parameters } of devices) {
    const access = parameters.readOnly ? 'read-only' : 'read-write';
    rows.push([node, humanSize(parameters.size), access, STATES[state] ?? 'unknown', String(serverPid)]);
  }
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)) + 2);
  return rows.map((row) => `${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('')}\n`).join('');
}
