/** `corral list`: the ublk devices of this machine. */

import { type UblkListEntry, ublkOwner } from '../../node/ublk-control.js';
import { outputArgument } from '../arguments.js';
import { findDevices } from '../devices.js';
import { value } from '../option-table.js';
import { CommandError, formatJson, humanSize, UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

const STATES = ['dead', 'live', 'quiesced', 'failing'];

export const list = defineVerb({
  about: 'Lists the ublk block devices of this machine, whoever serves them.',
  operands: '',
  options: {
    output: value('--output KIND', 'human or json', outputArgument),
    owner: value(
      '--owner DEVICE',
      'print user and group of a device that a user made; fail for others (for udev)',
      deviceNumber,
    ),
  },
  async run({ values: { output, owner }, operands }, { terminal }) {
    if (operands.length > 0) throw new UsageError(`Unexpected argument '${operands[0]}'`);
    if (owner !== undefined) return terminal.print(await ownerLine(owner));
    const devices = await findDevices();
    terminal.print(output === 'json' ? `${formatJson(devices.map(jsonDevice))}\n` : table(devices));
  },
});

/** Of any of the device's names: `/dev/ublkb0`, `ublkc0`, `0`. */
function deviceNumber(text: string): number {
  const number = /^(?:\/dev\/)?(?:ublk[bc])?(\d{1,7})$/.exec(text)?.[1];
  if (number === undefined) throw new UsageError(`'${text}' is not a ublk device`);
  return Number(number);
}

async function ownerLine(id: number): Promise<string> {
  const owner = await ublkOwner(id);
  if (owner === undefined) throw new CommandError(`/dev/ublkb${id} was made by root`);
  return `${owner.uid} ${owner.gid}\n`;
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
