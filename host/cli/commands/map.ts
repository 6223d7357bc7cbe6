/** `corral map`: which stretches of the disk have data, and where in the file it lies. */

import { Field } from '../../abi.js';
import { CorralError } from '../../errors.js';
import { sizeArgument } from '../arguments.js';
import { Closers } from '../closers.js';
import { FORCE_SHARE, IMAGE, NO_BACKING, OUTPUT } from '../common-options.js';
import { type Disk, openDisk } from '../disk.js';
import { value } from '../option-table.js';
import { CommandError, escapeText, type Terminal } from '../output.js';
import { type SparseExtent, withHoles } from '../sparse-image.js';
import { defineVerb, oneOperand } from '../verb.js';

/** Text that is collected before it is printed. */
const BATCH = 16384;

interface Options {
  format: string | undefined;
  imageOpts: boolean;
  output: 'human' | 'json' | undefined;
  startOffset: bigint | undefined;
  maxLength: bigint | undefined;
  forceShare: boolean;
  noBacking: boolean;
}

export const map = defineVerb({
  about: 'Prints where in the file, or in the files behind it, the data of an image lies.',
  operands: 'FILE',
  options: {
    ...IMAGE,
    ...OUTPUT,
    startOffset: value('-s, --start-offset OFFSET', 'where on the disk to begin', (given) =>
      sizeArgument(given, 'start offset'),
    ),
    maxLength: value('-l, --max-length LENGTH', 'bytes of the disk to look at', (given) =>
      sizeArgument(given, 'max length'),
    ),
    ...FORCE_SHARE,
    ...NO_BACKING,
  },
  run: ({ values, operands }, { terminal }) => printMap(oneOperand(operands), values, terminal),
});

async function printMap(path: string, options: Options, terminal: Terminal): Promise<void> {
  await using opened = new Closers();
  const disk = opened.add(await openToMap(path, options));
  const start = Number(options.startOffset ?? 0n);
  const end = Math.min(disk.size, options.maxLength === undefined ? disk.size : start + Number(options.maxLength));
  if (start >= disk.size && options.output === 'json') {
    terminal.print(`[${jsonLine({ ...NOTHING, offset: start })}]\n`);
    return;
  }
  const found = start < end ? withHoles(disk, disk.extents({ offset: start, length: end - start })) : nothing();
  const encrypted = disk.image !== undefined && disk.image.info.encryption !== 'none';
  const extents = joined(encrypted ? withoutPlace(found) : found);
  const name = disk.name.dataFile?.path ?? disk.image?.info.dataFile ?? disk.name.faults?.name ?? disk.name.path;
  await (options.output === 'json' ? printJson(extents, terminal) : printHuman(extents, name, terminal));
}

/** The map of an encrypted disk needs no key, unless a part of it is somebody else's. */
async function openToMap(path: string, options: Options): Promise<Disk> {
  try {
    return await openDisk(path, options);
  } catch (error) {
    const cause = error instanceof CommandError ? error.cause : undefined;
    if (!(cause instanceof CorralError) || cause.details.fieldCode !== Field.Encryption) throw error;
    const disk = await openDisk(path, { ...options, tablesOnly: true });
    if (disk.image?.info.backingFile === undefined) return disk;
    await disk.close();
    throw error;
  }
}

/** What QEMU prints where the disk has ended. */
const NOTHING = {
  length: 0,
  kind: 'data',
  allocated: false,
  hostOffset: undefined,
  depth: 0,
  layer: undefined,
  hole: false,
} as const;

/** Neighbours that would look alike as one, as QEMU joins them. */
async function* joined(extents: AsyncIterable<SparseExtent>): AsyncGenerator<SparseExtent> {
  let held: SparseExtent | undefined;
  for await (const extent of extents) {
    if (held !== undefined && continues(held, extent)) {
      held = { ...held, length: held.length + extent.length };
    } else {
      if (held !== undefined) yield held;
      held = extent;
    }
  }
  if (held !== undefined) yield held;
}

/** Encrypted bytes are nowhere as they are. */
async function* withoutPlace(extents: AsyncIterable<SparseExtent>): AsyncGenerator<SparseExtent> {
  for await (const extent of extents) yield { ...extent, hostOffset: undefined };
}

async function* nothing(): AsyncGenerator<SparseExtent> {}

function continues(first: SparseExtent, second: SparseExtent): boolean {
  if (first.kind !== second.kind || first.hole !== second.hole || first.depth !== second.depth) return false;
  const [from, to] = [plainOffset(first), plainOffset(second)];
  return from === undefined ? to === undefined : from + first.length === to;
}

/** Where the bytes lie as they are: a compressed cluster has no such place. */
function plainOffset(extent: SparseExtent): number | undefined {
  return extent.kind === 'compressed' ? undefined : extent.hostOffset;
}

async function printJson(extents: AsyncIterable<SparseExtent>, terminal: Terminal): Promise<void> {
  let batch = '[';
  let separator = '';
  for await (const extent of extents) {
    batch += `${separator}${jsonLine(extent)}`;
    separator = ',\n';
    if (batch.length >= BATCH) {
      terminal.print(batch);
      batch = '';
    }
  }
  terminal.print(`${batch}]\n`);
}

/** QEMU's order of the keys. */
function jsonLine(extent: SparseExtent): string {
  const { kind } = extent;
  const data = kind === 'data' || kind === 'compressed';
  const offset = plainOffset(extent);
  const where = offset === undefined ? '' : `, "offset": ${BigInt(offset)}`;
  return (
    `{ "start": ${BigInt(extent.offset)}, "length": ${BigInt(extent.length)}, "depth": ${extent.depth}, ` +
    `"present": ${kind !== 'unallocated' && extent.length > 0}, "zero": ${!data || extent.hole}, "data": ${data && extent.length > 0}, "compressed": ${kind === 'compressed'}${where}}`
  );
}

async function printHuman(extents: AsyncIterable<SparseExtent>, path: string, terminal: Terminal): Promise<void> {
  const name = escapeText(path);
  let batch = humanLine(['Offset', 'Length', 'Mapped to', 'File']);
  for await (const extent of extents) {
    if (extent.kind === 'compressed' || (extent.kind === 'data' && extent.hostOffset === undefined)) {
      terminal.print(batch);
      throw new CommandError('File contains external, encrypted or compressed clusters.');
    }
    if (extent.kind !== 'data' || extent.hole || extent.hostOffset === undefined) continue;
    const where = extent.layer === undefined ? name : escapeText(extent.layer.location ?? '');
    batch += humanLine([...[extent.offset, extent.length, extent.hostOffset].map(hexadecimal), where]);
    if (batch.length >= BATCH) {
      terminal.print(batch);
      batch = '';
    }
  }
  terminal.print(batch);
}

function humanLine(columns: readonly string[]): string {
  return `${columns.map((text, index) => (index < 3 ? text.padEnd(16) : text)).join('')}\n`;
}

/** As C's `%#x`: zero has no prefix. */
function hexadecimal(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}
