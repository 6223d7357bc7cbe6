/** Images that qemu-img makes for these tests. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openImage } from '../../host/node/index.js';
import { randomFrom } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';

/** Bytes of the disks. */
export const SIZE = 4 << 20;

/** What `makeCompressed` has made before, by its options. */
const compressed = new Map<string, Uint8Array>();
let mixed: Uint8Array | undefined;

/** An image of SIZE bytes that qemu-img compressed. */
export function makeCompressed({ type, clusterSize }: { type: string; clusterSize: number }): {
  path: string;
  contents: Uint8Array;
} {
  const folder = temporaryFolder();
  const [raw, path] = [join(folder, 'raw'), join(folder, 'image.qcow2')];
  const contents = mixedContents();
  const options = `compression_type=${type},cluster_size=${clusterSize}`;
  const made = compressed.get(options);
  if (made !== undefined) writeFileSync(path, made);
  else {
    writeFileSync(raw, contents);
    execFileSync('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, path]);
    compressed.set(options, readFileSync(path));
  }
  return { path, contents };
}

/** Source text, zeros, noise and repetition, one after the other; a copy for the caller. */
export function mixedContents(): Uint8Array {
  mixed ??= makeMixed();
  return mixed.slice();
}

function makeMixed(): Uint8Array {
  const contents = new Uint8Array(SIZE);
  const random = randomFrom(1);
  const source = readFileSync(new URL(import.meta.url));
  for (let offset = 0; offset < SIZE; offset++) {
    const kind = [3, 0, 2, 1, 3][Math.floor(offset / 100_000) % 5];
    contents[offset] = [0, 0x77, random() * 256, source[offset % source.length]][kind];
  }
  return contents;
}

/** All of an image's disk, its backing files included. */
export function readByQemu(path: string): Uint8Array {
  const raw = `${path}.raw`;
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  return readFileSync(raw);
}

/** Guest and file offset of the first compressed cluster. */
export async function firstCompressed(path: string): Promise<{ offset: number; hostOffset: number }> {
  await using image = await openImage(path);
  for await (const { kind, offset, hostOffset } of image.map()) {
    if (kind === 'compressed') return { offset, hostOffset: hostOffset as number };
  }
  throw new Error('qemu-img compressed nothing');
}
