/** `corral list`: the ublk devices of this machine. */

import type { UblkListEntry } from '../../node/ublk-control.js';
import { outputArgument } from '../arguments.js';
import { findDevices } from '../devices.js';
import { value } from '../option-table.js';
import { formatJson, humanSize, UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

const STATES = ['dead', 'live', 'quiesced', 'failing'];

export const list = defineVerb({
  about: 'Lists the ublk block devices of this machine, whoever serves them.',
  operands: '',
  options: { output: value('--output KIND', 'human or json', outputArgument) },
  async run({ values: { output }, operands }, { terminal }) {
    if (operands.length > 0) throw new UsageError(`Unexpected argument '${operands[0]}'`);
    const devices = await findDevices();
    terminal.print(output === 'json' ? `${formatJson(devices.map(jsonDevice))}\n` : table(devices));
  },
});

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
