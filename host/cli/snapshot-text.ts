/** Internal snapshots as the commands show them, in QEMU's columns and under QEMU's keys. */

import type { Snapshot } from '../snapshot-record.js';
import { escapeText, humanSize, type Json } from './output.js';

const NANOSECONDS = 1_000_000_000n;
const COLUMNS = ['ID', 'TAG', 'VM_SIZE', 'DATE', 'VM_CLOCK', 'ICOUNT'];

/** The list in QEMU's columns; empty when there is none. */
export function snapshotTable(snapshots: readonly Snapshot[]): string {
  if (snapshots.length === 0) return '';
  const rows = snapshots.map(({ id, name, vmStateSize, date, vmClock, icount }) => [
    escapeText(id),
    escapeText(name),
    humanSize(vmStateSize),
    dateText(date),
    clockText(vmClock),
    icount === undefined ? '--' : String(icount),
  ]);
  const lines = [COLUMNS, ...rows].map(
    ([id = '', tag = '', size = '', date = '', clock = '', icount = '']) =>
      `${padBytes(id, 7)} ${padBytes(tag, 16)} ${size.padStart(8)} ${date.padStart(19)} ${clock.padStart(15)} ${icount.padStart(10)}`,
  );
  return `Snapshot list:\n${lines.join('\n')}\n`;
}

/** The facts of one snapshot. */
export function snapshotFact({ id, name, vmStateSize, date, nanoseconds, vmClock, icount }: Snapshot): Json {
  return {
    icount,
    'vm-clock-nsec': vmClock % NANOSECONDS,
    name,
    'date-sec': Math.floor(date.getTime() / 1000),
    'date-nsec': nanoseconds,
    'vm-clock-sec': vmClock / NANOSECONDS,
    id,
    'vm-state-size': vmStateSize,
  };
}

/** As C's `%-7s`, which counts bytes. */
function padBytes(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - Buffer.byteLength(text)));
}

/** In local time, as QEMU prints it. */
function dateText(date: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function clockText(vmClock: bigint): string {
  const seconds = vmClock / NANOSECONDS;
  const pad = (value: bigint, width: number) => String(value).padStart(width, '0');
  const time = `${pad(seconds / 3600n, 4)}:${pad((seconds / 60n) % 60n, 2)}:${pad(seconds % 60n, 2)}`;
  return `${time}.${pad((vmClock % NANOSECONDS) / 1_000_000n, 3)}`;
}
