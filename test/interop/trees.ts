/** A tree of files with everything that is hard about them, images that the usual tools make of it, and a walk through one. */

import { execFileSync } from 'node:child_process';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { FileSystem, FileSystemSource } from '../../host/index.js';

/** Makes the tree; what FAT does not have is left out when `plain`. */
export function makeTree(folder: string, { plain = false, many = 300 } = {}): void {
  const path = (name: string): string => join(folder, name);
  for (const name of ['empty', 'deep', 'deep/er', 'deep/er/est', 'many', 'long']) mkdirSync(path(name));
  writeFileSync(path('short'), 'a few bytes\n');
  writeFileSync(path('nothing'), '');
  writeFileSync(path('deep/er/est/bytes'), pattern(300_000, 7));
  writeFileSync(path('exact'), pattern(65536, 11));
  writeFileSync(path('long/a name that is much longer than eight and three.text'), 'long\n');
  writeFileSync(path('long/ünïcödé – 名前'), 'names\n');
  writeFileSync(path(`long/${'x'.repeat(250)}`), 'very long\n');
  for (let index = 0; index < many; index++) writeFileSync(path(`many/file ${index}`), `${index}\n`);
  if (plain) return;
  const holes = openSync(path('holes'), 'w');
  for (let index = 0; index < 400; index++) writeSync(holes, pattern(1024, index), 0, 1024, index * 12_288);
  writeSync(holes, 'end', 6_999_997);
  closeSync(holes);
  symlinkSync('deep/er/est/bytes', path('to bytes'));
  symlinkSync('/short', path('deep/absolute'));
  symlinkSync('../../../../../../short', path('deep/upwards'));
  symlinkSync(`./${'./'.repeat(60)}short`, path('slow link'));
  symlinkSync('loop', path('loop'));
  symlinkSync('many', path('to many'));
}

export function pattern(length: number, seed: number): Uint8Array {
  return new Uint8Array(length).map((_, index) => (index * 31 + (index >> 8) * 17 + seed) % 251);
}

/** An image of an ext file system with the tree in it. */
export function makeExt(tree: string, image: string, options: readonly string[], megabytes = 16): void {
  writeFileSync(image, '');
  truncateSync(image, megabytes * 2 ** 20);
  execFileSync('mkfs.ext4', ['-q', '-F', '-d', tree, '-L', 'a label', ...options, image], { stdio: 'pipe' });
}

/** An image of a FAT file system with the tree in it. */
export function makeFat(tree: string, image: string, options: readonly string[], megabytes: number): void {
  writeFileSync(image, '');
  truncateSync(image, megabytes * 2 ** 20);
  execFileSync('mkfs.fat', ['-n', 'A LABEL', ...options, image], { stdio: 'pipe' });
  const names = readdirSync(tree).map((name) => join(tree, name));
  execFileSync('mcopy', ['-s', '-i', image, ...names, '::/'], {
    stdio: 'pipe',
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
}

export function sourceOf(bytes: Uint8Array): FileSystemSource {
  return {
    size: bytes.length,
    async read(offset, length) {
      if (offset < 0 || offset + length > bytes.length) throw new RangeError(`${length} bytes at ${offset} were read`);
      return bytes.slice(offset, offset + length);
    },
  };
}

/** What lies where: contents as text, links as "-> target", directories as "directory". */
export type Contents = Record<string, string>;

/** Of a tree of this machine. */
export function contentsOf(folder: string, below = ''): Contents {
  const found: Contents = {};
  for (const name of readdirSync(join(folder, below))) {
    const path = `${below}/${name}`;
    const status = lstatSync(join(folder, path));
    if (status.isSymbolicLink()) found[path] = `-> ${readlinkSync(join(folder, path))}`;
    else if (status.isDirectory()) Object.assign(found, { [path]: 'directory' }, contentsOf(folder, path));
    else found[path] = readFileSync(join(folder, path)).toString('latin1');
  }
  return found;
}

/** Of a file system; each file is read in pieces of this length. */
export async function contentsIn(fileSystem: FileSystem, piece = 100_000, below = ''): Promise<Contents> {
  const found: Contents = {};
  for (const { name, kind, size } of await fileSystem.list(below)) {
    const path = `${below}/${name}`;
    if (path === '/lost+found') continue;
    if (kind === 'symlink') found[path] = `-> ${await fileSystem.readLink(path)}`;
    else if (kind === 'directory') {
      Object.assign(found, { [path]: 'directory' }, await contentsIn(fileSystem, piece, path));
    } else {
      const pieces: Uint8Array[] = [];
      for (let at = 0; at < size; at += piece) pieces.push(await fileSystem.read(path, at, piece));
      found[path] = Buffer.concat(pieces).toString('latin1');
    }
  }
  return found;
}
