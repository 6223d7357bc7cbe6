/** Compressed clusters that QEMU wrote, read by Corral, with Node's codecs and with the portable ones. */

import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { portableCodec } from '../../host/codec/portable-codec.js';
import { openImage } from '../../host/node/index.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const MIB = 1 << 20;

const kinds = (['zlib', 'zstd'] as const).flatMap((type) =>
  [512, 4096, 65536, 2 * MIB].map((clusterSize) => ({ type, clusterSize })),
);

describe('an image that qemu-img compressed', () => {
  test.each(kinds)('with $type in clusters of $clusterSize reads as what it was made from', async (kind) => {
    const seed = chooseSeed();
    const { path, contents } = makeCompressed(kind, seed);

    for (const codec of [undefined, portableCodec]) {
      await using image = await openImage(path, codec === undefined ? {} : { codec });
      const target = new Uint8Array(contents.length);
      await image.read(0, target);
      expectSameBytes(target, contents, `seed ${seed}:`);
    }
  });

  test.each(kinds)('with $type in clusters of $clusterSize gives parts of clusters', async (kind) => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const { path, contents } = makeCompressed(kind, seed);
    await using image = await openImage(path);

    for (let step = 0; step < 50; step++) {
      const length = 1 + below(random, 20_000);
      const offset = below(random, contents.length - length);
      const target = new Uint8Array(length);
      await image.read(offset, target);
      expectSameBytes(target, contents.subarray(offset, offset + length), `seed ${seed}, offset ${offset}:`);
    }
  });

  test.each(['zlib', 'zstd'] as const)('with %s and damaged data is refused with the place', async (type) => {
    const { path, contents } = makeCompressed({ type, clusterSize: 65536 }, 1);
    const damaged = await firstCompressed(path);
    const descriptor = openSync(path, 'r+');
    writeSync(descriptor, Buffer.alloc(200, 0xff), 0, 200, damaged.hostOffset);
    closeSync(descriptor);
    await using image = await openImage(path);

    await expect(image.read(damaged.offset, new Uint8Array(512))).rejects.toMatchObject({
      code: 'ERR_IMAGE_CORRUPT',
      message: expect.stringContaining(
        `the compressed cluster at file offset ${damaged.hostOffset} cannot be decompressed`,
      ),
    });
    expect(contents.length).toBe(image.size);
  });

  test('and that ends before its compressed data is refused', async () => {
    const { path } = makeCompressed({ type: 'zlib', clusterSize: 65536 }, 1);
    const { offset, hostOffset } = await firstCompressed(path);
    writeFileSync(path, readFileSync(path).subarray(0, hostOffset + 10));
    expect(statSync(path).size).toBe(hostOffset + 10);

    const reading = openImage(path).then(async (image) => {
      await using opened = image;
      await opened.read(offset, new Uint8Array(512));
    });

    await expect(reading).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
  });
});

describe('zstd frames that claim too much', () => {
  const claims = {
    'a content larger than the cluster': [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 0x01, 0, 0],
    'a window of many gigabytes': [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0, 0],
    'a block that goes on behind the data': [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x10, 0xff, 0xff, 0xff],
    'a frame without its header': [0x28, 0xb5],
  };

  test.each(Object.entries(claims))('%s is refused before it is allocated', async (_, bytes) => {
    await expect(portableCodec.decompress('zstd', Uint8Array.from(bytes), 65536)).rejects.toThrow(RangeError);
  });
});

function makeCompressed(
  { type, clusterSize }: { type: string; clusterSize: number },
  seed: number,
): { path: string; contents: Uint8Array } {
  const folder = temporaryFolder();
  const raw = join(folder, 'raw');
  const path = join(folder, 'image.qcow2');
  const contents = mixedContents(seed);
  writeFileSync(raw, contents);
  const options = `compression_type=${type},cluster_size=${clusterSize}`;
  execFileSync('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, raw, path]);
  return { path, contents };
}

/** Text, zeros, noise and repetition in stretches of random lengths. */
function mixedContents(seed: number): Uint8Array {
  const random = randomFrom(seed);
  const contents = new Uint8Array(5 * MIB);
  const source = readFileSync(new URL(import.meta.url));
  for (let offset = 0; offset < contents.length; ) {
    const end = Math.min(contents.length, offset + 1 + below(random, 150_000));
    const kind = below(random, 4);
    const value = below(random, 256);
    for (let index = offset; index < end; index++) {
      contents[index] = [0, value, random() * 256, source[index % source.length] as number][kind] as number;
    }
    offset = end;
  }
  return contents;
}

async function firstCompressed(path: string): Promise<{ offset: number; hostOffset: number }> {
  await using image = await openImage(path);
  for await (const { kind, offset, hostOffset } of image.map()) {
    if (kind === 'compressed') return { offset, hostOffset: hostOffset as number };
  }
  throw new Error('qemu-img compressed nothing');
}
