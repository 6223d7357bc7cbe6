/** `corral snapshot`: lists, makes, applies and deletes internal snapshots. */

import { CorralError } from '../../errors.js';
import type { Snapshot } from '../../snapshot-record.js';
import type { Snapshots } from '../../snapshots.js';
import { type Format, formatArgument } from '../arguments.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import { flag, text, value } from '../option-table.js';
import { CommandError, escapeText, humanSize, reasonOf, type Terminal, UsageError } from '../output.js';
import { defineVerb, oneOperand } from '../verb.js';

const NANOSECONDS = 1_000_000_000n;

interface Options {
  format: Format | undefined;
  list: boolean;
  apply: string | undefined;
  create: string | undefined;
  delete: string | undefined;
  forceShare: boolean;
}

export const snapshot = defineVerb({
  about: 'Lists the internal snapshots of an image, or makes, applies or deletes one.',
  operands: 'FILE',
  options: {
    list: flag('-l, --list', 'list all snapshots (the default)'),
    create: text('-c, --create NAME', 'make a snapshot of the disk as it is'),
    apply: text('-a, --apply SNAPSHOT', 'the disk becomes what the snapshot of this id or name holds'),
    delete: text('-d, --delete NAME', 'delete the first snapshot of this name'),
    format: value('-f, --format FMT', 'qcow2 or raw; found out when not given', (given) => formatArgument(given)),
    quiet: flag('-q, --quiet', 'print nothing but the list'),
    forceShare: flag('-U, --force-share', 'with -l: also when another process writes to the image'),
  },
  run: ({ values, operands }, { terminal }) => run(oneOperand(operands), values, terminal),
});

async function run(path: string, options: Options, terminal: Terminal): Promise<void> {
  const { apply, create, forceShare } = options;
  const wanted = [options.list ? '' : undefined, apply, create, options.delete].filter((name) => name !== undefined);
  if (wanted.length > 1) throw new UsageError("Cannot mix '-l', '-a', '-c', '-d'");
  const write = apply !== undefined || create !== undefined || options.delete !== undefined;
  const file = await openFile(path, { write, forceShare: !write && forceShare, mayForceShare: !write });
  if ((options.format ?? (await probeFormat(file))) === 'raw') {
    await file.close();
    if (write) throw new CommandError(`'${path}': A raw image has no snapshots`);
    return;
  }
  const access = write ? { write } : { tablesOnly: true };
  await using image = await openImageIn(file, path, { ...access, requestCapacity: 1 });
  const { snapshots } = image;
  if (create !== undefined) await attempt('create', create, () => snapshots.create({ name: create, icount: 0n }));
  else if (apply !== undefined) await attempt('apply', apply, () => snapshots.apply(apply));
  else if (options.delete !== undefined) await remove(snapshots, options.delete);
  else terminal.print(snapshotTable(await snapshots.list()));
  await image.close();
}

/** By its name only, as QEMU does. */
async function remove(snapshots: Snapshots, wanted: string): Promise<void> {
  await attempt('delete', wanted, async () => {
    const found = (await snapshots.list()).find(({ name }) => name === wanted);
    if (found === undefined) throw new CommandError('snapshot not found');
    await snapshots.delete({ id: found.idBytes, name: found.nameBytes });
  });
}

async function attempt(verb: string, name: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof CorralError) && !(error instanceof CommandError)) throw error;
    throw new CommandError(`Could not ${verb} snapshot '${name}': ${reasonOf(error)}`, 1, { cause: error });
  }
}

/** The list in QEMU's columns; empty when there is none. */
function snapshotTable(snapshots: readonly Snapshot[]): string {
  if (snapshots.length === 0) return '';
  const rows = snapshots.map(({ id, name, vmStateSize, date, vmClock, icount }) => [
    escapeText(id),
    escapeText(name),
    humanSize(vmStateSize),
    dateText(date),
    clockText(vmClock),
    icount === undefined ? '--' : String(icount),
  ]);
  const lines = [['ID', 'TAG', 'VM_SIZE', 'DATE', 'VM_CLOCK', 'ICOUNT'], ...rows].map(
    ([id = '', tag = '', size = '', date = '', clock = '', icount = '']) =>
      `${id.padEnd(7)} ${tag.padEnd(16)} ${size.padStart(8)} ${date.padStart(19)} ${clock.padStart(15)} ${icount.padStart(10)}`,
  );
  return `Snapshot list:\n${lines.join('\n')}\n`;
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
