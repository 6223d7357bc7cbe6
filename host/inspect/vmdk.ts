/** VMDK: the sparse header, and the descriptor, whose lines name files. */

import { asciiOf, hasBytes, type Reader, viewOf } from '../filesystem/reader.js';
import type { Findings } from './findings.js';
import { judgeReference, type Reference } from './names.js';

const SECTOR = 512;
const MAXIMUM_DESCRIPTOR = 2 ** 20;
/** Names no other file: everything lies in this one. */
const SINGLE_FILE = ['monolithicsparse', 'streamoptimized'];
const AT_END = 0xffffffffffffffffn;

interface Header {
  readonly virtualSize?: bigint;
  readonly references: readonly Reference[];
}

export async function readVmdk(file: Reader, findings: Findings): Promise<Header> {
  const header = await file.bytes(0, SECTOR);
  if (!hasBytes(header, 0, 'KDMV')) return readDescriptorFile(file, findings, header);
  const view = viewOf(header);
  const version = view.getUint32(4, true);
  if (version < 1 || version > 3) wrong(findings, 'Version', 4, version, 3);
  const grain = Number(view.getBigUint64(20, true));
  if (!(grain >= 8 && grain <= 2048 && Number.isInteger(Math.log2(grain)))) wrong(findings, 'Grain size', 20, grain);
  const entries = view.getUint32(44, true);
  if (entries !== 512) wrong(findings, 'Entries of a grain table', 44, entries, 512);
  if (view.getBigUint64(56, true) === AT_END) await judgeFooter(file, findings, header);
  const virtualSize = view.getBigUint64(12, true) * BigInt(SECTOR);
  const offset = Number(view.getBigUint64(28, true)) * SECTOR;
  const length = Number(view.getBigUint64(36, true)) * SECTOR;
  if (offset < SECTOR || length === 0 || length > MAXIMUM_DESCRIPTOR || offset + length > file.length) {
    wrong(findings, 'Place or length of the descriptor', 28, offset, file.length);
    return { virtualSize, references: [] };
  }
  const descriptor = await file.bytes(offset, length);
  return { virtualSize, references: judgeDescriptor(findings, descriptor, offset, false) };
}

/** The descriptor is the file: its extents are others. The old sparse formats are refused as a whole. */
async function readDescriptorFile(file: Reader, findings: Findings, start: Uint8Array): Promise<Header> {
  if (hasBytes(start, 0, 'COWD') || start[0] === 0xbe) {
    wrong(findings, 'A kind of VMDK that is not looked into', 0, viewOf(start).getUint32(0));
    return { references: [] };
  }
  const length = Math.min(file.length, MAXIMUM_DESCRIPTOR);
  return { references: judgeDescriptor(findings, await file.bytes(0, length), 0, true) };
}

/** A stream's header stands again at its end, with the place of the tables filled in. */
async function judgeFooter(file: Reader, findings: Findings, header: Uint8Array): Promise<void> {
  const offset = file.length - 2 * SECTOR;
  const footer = await file.bytes(Math.max(0, offset), SECTOR);
  const same = header.every((byte, index) => (index >= 56 && index < 64) || footer[index] === byte);
  if (!same) wrong(findings, 'The footer does not repeat the header', Math.max(0, offset), 0);
}

const EXTENT = /^(?:RW|RDONLY|NOACCESS)\s+\d+\s+([A-Z0-9]+)(?:\s+"([^"]*)")?/i;

function judgeDescriptor(findings: Findings, bytes: Uint8Array, offset: number, alone: boolean): Reference[] {
  const text = asciiOf(bytes).replace(/\0.*$/s, '');
  const type = /^\s*createType\s*=\s*"([^"]*)"/im.exec(text)?.[1]?.toLowerCase();
  const numbers = { offset, length: text.length };
  if (type === undefined || !SINGLE_FILE.includes(type)) {
    findings.add('format.header', 'The descriptor tells of a kind of disk that consists of other files', numbers);
  }
  const references: Reference[] = [];
  let extents = 0;
  for (const line of text.split(/\r?\n/)) {
    const [matched, , name] = EXTENT.exec(line.trim()) ?? [];
    if (matched !== undefined) extents++;
    if (name === undefined || (!alone && !/[/\\:]/.test(name))) continue;
    findings.add('ref.extent-file', 'An extent is another file', numbers);
    references.push(judgeReference(findings, 'extent-file', bytesOf(name), numbers));
  }
  if (extents === 0) findings.add('format.header', 'The descriptor has no extent', numbers);
  const parent = /^\s*parentFileNameHint\s*=\s*"([^"]*)"/im.exec(text)?.[1];
  if (parent !== undefined) {
    findings.add('ref.backing-file', 'The disk continues from a parent', numbers);
    references.push(judgeReference(findings, 'parent', bytesOf(parent), numbers));
  }
  return references.slice(0, 100);
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function wrong(findings: Findings, what: string, offset: number, value: number, limit?: number): void {
  findings.add('format.header', what, { offset, value, limit });
}
