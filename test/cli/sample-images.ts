/** Images that qemu-img made, one for each kind that the commands tell apart. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../temporary-folder.js';
import { mustQemuImg, qemuIo } from './run-corral.js';

/** A new image with these `-o` options; a few stretches written, zeroed and overwritten. */
export function writtenImage(options = 'compat=1.1', name = 'image.qcow2'): string {
  const path = newImage(options, '10M', name);
  qemuIo(
    path,
    'write -P 1 0 128k',
    'write -P 2 1M 64k',
    'write -P 3 3M 64k',
    'write -z 2M 128k',
    'write -z 3M 64k',
    'write -P 5 5M 192k',
    'write -P 4 9M 100k',
    'write -P 6 10485248 512',
  );
  return path;
}

/** A new, empty image with these `-o` options. */
export function newImage(options = 'compat=1.1', size = '10M', name = 'image.qcow2'): string {
  const path = join(temporaryFolder(), name);
  mustQemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, size);
  return path;
}

/** The header with one byte changed. */
export function withHeaderByte(path: string, offset: number, value: number): string {
  const bytes = readFileSync(path);
  bytes[offset] = value;
  writeFileSync(path, bytes);
  return path;
}
