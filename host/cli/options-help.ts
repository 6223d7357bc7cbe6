/** `-o help`: the options of a format, in the form of QEMU's list. */

import type { Format } from './arguments.js';
import { optionList } from './arguments.js';

type Row = readonly [name: string, kind: string, about: string];

const SIZE: Row = ['size', 'size', 'bytes of the disk'];
/** Every option that new images can have. */
export const CREATE_OPTIONS: readonly Row[] = [
  ['backing_file', 'str', 'what the disk continues from'],
  ['backing_fmt', 'str', 'format of that file: qcow2 or raw'],
  ['cluster_size', 'size', 'bytes that are allocated together, 512 to 2M'],
  ['compat', 'str', 'version: 0.10 (v2) or 1.1 (v3)'],
  ['compression_type', 'str', 'zlib or zstd'],
  ['data_file', 'str', 'a file for the bytes of the disk alone'],
  ['data_file_raw', 'bool (on/off)', 'that file stays a raw disk'],
  ['extended_l2', 'bool (on/off)', 'clusters have 32 parts that are allocated alone'],
  ['lazy_refcounts', 'bool (on/off)', 'refcounts may be behind; repaired after a crash'],
  ['preallocation', 'str', 'off, metadata, falloc or full'],
  ['refcount_bits', 'num', 'bits of a refcount: 1, 2, 4, 8, 16, 32 or 64'],
  SIZE,
];
const RAW: readonly Row[] = [['preallocation', 'str', 'off, falloc or full'], SIZE];
const OF_FILE: readonly Row[] = [
  ['extent_size_hint', 'size', 'of no effect here'],
  ['nocow', 'bool (on/off)', 'of no effect here'],
];
const AMENDED = ['compat', 'data_file_raw', 'lazy_refcounts', 'refcount_bits', 'size'];

/** Whether one of the lists asks for help. */
export function asksForOptions(lists: readonly string[]): boolean {
  return lists.some((list) => optionList([list]).has('help') || optionList([list]).has('?'));
}

/** The options that a new image of this format can have; `named`: with those of the file that it will lie in. */
export function createOptionsHelp(format: Format, named: boolean): string {
  const rows = format === 'qcow2' ? CREATE_OPTIONS : RAW;
  if (!named) return `Supported ${format} options:\n${rowsText(rows)}`;
  const all = [...rows, ...OF_FILE].sort(([first], [second]) => (first < second ? -1 : 1));
  return `Supported options:\n${rowsText(all)}`;
}

/** Those that an image can get later. */
export function amendOptionsHelp(): string {
  return `Amend options for 'qcow2':\n${rowsText(CREATE_OPTIONS.filter(([name]) => AMENDED.includes(name)))}`;
}

function rowsText(rows: readonly Row[]): string {
  return rows.map(([name, kind, about]) => `  ${`${name}=<${kind}>`.padEnd(22)} - ${about}\n`).join('');
}
