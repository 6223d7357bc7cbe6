/** Images with bitmaps, and what QEMU and Corral say of them. */

import { execFile, execFileSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openImage } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';

const run = promisify(execFile);

export interface QemuBitmap {
  name: string;
  granularity: number;
  flags: string[];
}

/** The bitmaps as `qemu-img info` lists them. */
export function qemuBitmaps(path: string, ...options: string[]): QemuBitmap[] {
  const output = execFileSync('qemu-img', ['info', ...options, '-f', 'qcow2', '--output=json', path], {
    encoding: 'utf8',
  });
  return JSON.parse(output)['format-specific'].data.bitmaps ?? [];
}

export function qemuBitmap(path: string, name: string, ...actions: string[]): void {
  execFileSync('qemu-img', ['bitmap', ...actions, '-f', 'qcow2', path, name], { stdio: 'pipe' });
}

/** What QEMU finds dirty: through an NBD export of a copy, with the bitmap disabled because the export is read-only. */
export async function qemuRanges(path: string, name: string): Promise<{ offset: number; length: number }[]> {
  const copy = `${path}.copy`;
  const socket = `${path}.sock`;
  copyFileSync(path, copy);
  qemuBitmap(copy, name, '--disable');
  // Comes back when it listens, and is gone after its first client.
  execFileSync('qemu-nbd', ['--fork', '-r', '-B', name, '-f', 'qcow2', '-k', socket, copy], { stdio: 'ignore' });
  const node = `driver=nbd,server.type=unix,server.path=${socket},x-dirty-bitmap=qemu:dirty-bitmap:${name}`;
  const { stdout } = await run('qemu-img', ['map', '--output=json', '--image-opts', node], {
    maxBuffer: 1 << 26,
  });
  const extents: { start: number; length: number; data: boolean }[] = JSON.parse(stdout);
  return extents.filter(({ data }) => !data).map(({ start, length }) => ({ offset: start, length }));
}

/** Throws, with what it said, when `qemu-img check` finds errors or leaks. */
export function qemuCheck(path: string): void {
  execFileSync('qemu-img', ['check', '-f', 'qcow2', path], { stdio: 'pipe', encoding: 'utf8' });
}

export function qemuIo(path: string, ...commands: string[]): void {
  const list = commands.flatMap((command) => ['-c', command]);
  execFileSync('qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...list, path], { stdio: 'pipe' });
}

/** A new image in a folder of its own. */
export function newImage(size: string | number, options = 'cluster_size=65536'): string {
  const path = join(temporaryFolder(), 'image.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, path, String(size)]);
  return path;
}

/** What Corral finds dirty in a bitmap of an image that nobody has open. */
export async function ranges(path: string, name: string): Promise<{ offset: number; length: number }[]> {
  await using image = await openImage(path);
  return await all(image.bitmaps.ranges(name));
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
