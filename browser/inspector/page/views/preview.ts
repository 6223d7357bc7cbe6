/** One file of a file system: what it is, the beginning of it, and a button that saves it. */

import type { FileDescription, State } from '../../protocol.js';
import type { App } from '../app.js';
import type { CallOptions } from '../client.js';
import { definitions, h } from '../dom.js';
import { openSink } from '../sink.js';
import { runTask } from '../task.js';
import { exactBytes, visibleText } from '../text.js';

/** Bytes that a preview shows of a text, and of others in hexadecimal. */
const TEXT_LENGTH = 65536;
const HEX_LENGTH = 512;
/** A larger picture is not decoded. */
const LARGEST_PICTURE = 16 * 2 ** 20;
const PIECE_LENGTH = 2 ** 20;

/** Pictures that are shown as such, by how they begin. An image element runs nothing and fetches nothing. */
const PICTURES: readonly (readonly [type: string, start: readonly number[]])[] = [
  ['image/png', [0x89, 0x50, 0x4e, 0x47]],
  ['image/jpeg', [0xff, 0xd8, 0xff]],
  ['image/gif', [0x47, 0x49, 0x46, 0x38]],
  ['image/webp', [0x52, 0x49, 0x46, 0x46]],
];

interface ShownFile extends FileDescription {
  readonly state: State;
  readonly partition: number;
  readonly path: string;
}

export async function previewElement(
  app: App,
  file: ShownFile,
  gone: AbortSignal,
  options: Required<CallOptions>,
): Promise<HTMLElement> {
  const { kind, size, target, path } = file;
  const name = path.slice(path.lastIndexOf('/') + 1);
  const facts = definitions([
    ['Kind', kind],
    ['Size', kind === 'file' && exactBytes(size)],
    ['Leads to', target !== undefined && visibleText(target)],
  ]);
  const title = h('h2', {}, visibleText(name));
  if (kind !== 'file') return h('div', { class: 'preview' }, title, facts);
  const result = h('div', { 'aria-live': 'polite' });
  const save = h('button', { type: 'button', class: 'save' }, 'Save this file');
  save.addEventListener('click', async () => {
    const sink = await openSink(name, size);
    if (sink === undefined) return;
    result.replaceChildren();
    await runTask(result, `Saving ${visibleText(name)}`, gone, (task) => copyFile(app, file, sink, task));
  });
  return h('div', { class: 'preview' }, title, facts, save, result, await contents(app, file, gone, options));
}

async function copyFile(
  app: App,
  { state, partition, path, size }: ShownFile,
  sink: NonNullable<Awaited<ReturnType<typeof openSink>>>,
  { signal, onProgress }: Required<CallOptions>,
): Promise<HTMLElement> {
  try {
    for (let offset = 0; offset < size; ) {
      const where = { state, partition, path, offset, length: PIECE_LENGTH };
      const bytes = await app.client.call('readFile', where, { signal });
      if (bytes.length === 0) throw new Error('The file is shorter than its file system says');
      await sink.write(offset, bytes);
      offset += bytes.length;
      onProgress({ done: offset, total: size });
    }
    await sink.finish();
  } catch (error) {
    await sink.abandon().catch(() => {});
    throw error;
  }
  return h('p', { 'data-saved': size }, `${exactBytes(size)} are saved.`);
}

/** The beginning of a file, as what it seems to be. */
async function contents(
  app: App,
  { state, partition, path, size }: ShownFile,
  gone: AbortSignal,
  { signal }: Required<CallOptions>,
): Promise<HTMLElement> {
  const read = (length: number): Promise<Uint8Array<ArrayBuffer>> =>
    app.client.call('readFile', { state, partition, path, offset: 0, length }, { signal });
  const start = await read(TEXT_LENGTH);
  const picture = PICTURES.find(([, magic]) => magic.every((byte, index) => start[index] === byte));
  if (picture !== undefined && size <= LARGEST_PICTURE) {
    const url = URL.createObjectURL(new Blob([await read(size)], { type: picture[0] }));
    gone.addEventListener('abort', () => URL.revokeObjectURL(url));
    return h('img', { src: url, alt: `Preview of ${visibleText(path)}` });
  }
  const text = textOf(start, size > start.length);
  const label = text === undefined ? 'The first bytes' : 'The beginning of the file';
  const shown = text ?? hexDump(start.subarray(0, HEX_LENGTH));
  const more = size > (text === undefined ? HEX_LENGTH : start.length) ? '\n…' : '';
  return h('pre', { tabindex: 0, role: 'region', 'aria-label': label }, `${shown}${more}` || 'An empty file.');
}

/** Undefined for bytes that are no text. */
function textOf(bytes: Uint8Array, isCut: boolean): string | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: isCut });
    return /[\u0000-\u0008\u000e-\u001a]/.test(text) ? undefined : text.split('\n').map(visibleLine).join('\n');
  } catch {
    return undefined;
  }
}

function visibleLine(line: string): string {
  return line.split('\t').map(visibleText).join('\t');
}

function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const letters = row.map((byte) => (byte > 32 && byte < 127 ? String.fromCharCode(byte) : '·')).join('');
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex.padEnd(47)}  ${letters}`);
  }
  return lines.join('\n');
}
