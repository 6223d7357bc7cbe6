/** Overlays on a ublk device: what lies behind them is read by the helper thread. */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { BackingData, HelperData } from '../../host/node/helper-messages.js';
import { startHelperThread } from '../../host/node/helper-thread.js';
import { openImage } from '../../host/node/index.js';
import type { HelperOptions } from '../../host/node/ring-engine-options.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { firstCompressed, makeCompressed, mixedContents, readByQemu, SIZE } from './images.js';
import { pattern } from './ring-fixture.js';
import { DISCARD, EIO, READ, Served, WRITE_ZEROES } from './served.js';

const SECTOR = 512;
const MIB = 1 << 20;

let served: Served | undefined;

afterEach(() => {
  served?.end();
  served = undefined;
});

async function helperFor(path: string, backing: Partial<BackingData> = {}): Promise<HelperOptions> {
  await using image = await openImage(path, { inspect: true });
  const all = { path, facts: image.info, write: true, mayOpen: 'any' as const, ...backing };
  return { start: (data: HelperData) => startHelperThread(data, () => {}), backing: all };
}

function overlay(base: string, format: string, { clusterSize = 65536, compat = '1.1', size = SIZE } = {}): string {
  const path = join(dirname(base), `over-${clusterSize}-${compat}.qcow2`);
  const options = `cluster_size=${clusterSize},compat=${compat}`;
  execFileSync('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    options,
    '-b',
    base,
    '-F',
    format,
    path,
    String(size),
  ]);
  return path;
}

function rawBase(length: number): { base: string; contents: Uint8Array } {
  const base = join(temporaryFolder(), 'base.raw');
  writeFileSync(base, mixedContents().subarray(0, length));
  const contents = new Uint8Array(SIZE);
  contents.set(mixedContents().subarray(0, length));
  return { base, contents };
}

const chains = [
  { name: 'a raw file', compat: '1.1', clusterSize: 65536, make: () => ({ ...rawBase(SIZE), format: 'raw' }) },
  {
    name: 'a shorter raw file',
    compat: '1.1',
    clusterSize: 4096,
    make: () => ({ ...rawBase(MIB + 7 * SECTOR), format: 'raw' }),
  },
  { name: 'a compressed image', compat: '1.1', clusterSize: 65536, make: () => compressedBase('zlib') },
  { name: 'a compressed image', compat: '0.10', clusterSize: 2 * MIB, make: () => compressedBase('zstd') },
  {
    name: 'an overlay over a compressed image',
    compat: '1.1',
    clusterSize: 512,
    make: () => {
      const { base, contents } = compressedBase('zlib');
      const middle = overlay(base, 'qcow2');
      execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P 9 ${MIB} 100k`, middle], { stdio: 'ignore' });
      contents.fill(9, MIB, MIB + 100 * 1024);
      return { base: middle, contents, format: 'qcow2' };
    },
  },
];

function compressedBase(type: string): { base: string; contents: Uint8Array; format: string } {
  const { path, contents } = makeCompressed({ type, clusterSize: 65536 });
  return { base: path, contents, format: 'qcow2' };
}

describe.each(chains)('over $name, compat $compat, clusters of $clusterSize', ({ make, ...kind }) => {
  test('what is not allocated shows what lies behind', async () => {
    const { base, contents, format } = make();
    const path = overlay(base, format, kind);
    served = new Served(path, { writable: false, helper: await helperFor(path, { write: false }) });

    const found = served.readAll(0, SIZE);
    served.close();

    expectSameBytes(found, contents);
  });

  test('writes, zeros and discards leave the rest as it was, and the base unchanged', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const { base, contents, format } = make();
    const before = readFileSync(base);
    const path = overlay(base, format, kind);
    served = new Served(path, { helper: await helperFor(path) });

    for (let count = 0; count < 40; count++) {
      const length = SECTOR * (1 + below(random, count % 4 === 0 ? 200 : 20));
      const offset = SECTOR * below(random, (SIZE - length) / SECTOR);
      if (count % 5 === 4) {
        served.arrive(0, count % 2 === 0 ? WRITE_ZEROES : DISCARD, offset, length);
        expect(served.answersOf(0)).toEqual([0]);
        if (count % 2 === 0) contents.fill(0, offset, offset + length);
        else contents.set(served.readAll(offset, length), offset); // may be zeros, or be left as it was
      } else {
        const bytes = pattern(length, count);
        expect(served.write(offset, bytes)).toBe(length);
        contents.set(bytes, offset);
      }
    }
    expectSameBytes(served.readAll(0, SIZE), contents, `seed ${seed}:`);
    expect(served.engine.ring.statistics()).toMatchObject({ violations: 0, operationsInFlight: 0 });
    served.close();

    expect(() => execFileSync('qemu-img', ['check', '-f', 'qcow2', path])).not.toThrow();
    expectSameBytes(readByQemu(path), contents, `QEMU, seed ${seed}:`);
    expect(readFileSync(base).equals(before)).toBe(true);
  });
});

test('requests for both sides of the border at once get what is theirs', async () => {
  const { base, contents } = rawBase(SIZE);
  const path = overlay(base, 'raw');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 3 64k 64k', '-c', 'write -P 4 256k 64k', path], {
    stdio: 'ignore',
  });
  contents.fill(3, 65_536, 131_072).fill(4, 262_144, 327_680);
  served = new Served(path, { helper: { ...(await helperFor(path)), jobs: 2 } });

  const found = served.readAll(SECTOR, SIZE - SECTOR);

  expectSameBytes(found, contents.subarray(SECTOR));
});

describe('what lies behind the image', () => {
  test.each<[string, Partial<BackingData>, RegExp]>([
    ['and is missing', {}, /base\.raw.*No such file/],
    ['and may not be opened', { mayOpen: undefined }, /no gate was given that may open it/],
    ['and is not in the list', { mayOpen: ['/other.raw'] }, /no gate was given that may open it/],
    ['in a longer chain than is allowed', { chainDepth: 0 }, /more than 0 layers/],
  ])('%s is named, and the image stays as it was', async (name, options, message) => {
    const { base } = rawBase(SIZE);
    const path = overlay(base, 'raw');
    const before = readFileSync(path);
    if (name.includes('missing')) rmSync(base);
    const helper = await helperFor(path, options);

    expect(() => new Served(path, { helper })).toThrow(message);

    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('is refused by name without a helper', async () => {
    const { base } = rawBase(SIZE);
    const path = overlay(base, 'raw');

    expect(() => new Served(path)).toThrow(/backing file/);
  });

  test('and is damaged makes errors of the requests that need it, with the cause', async () => {
    const { path: base } = makeCompressed({ type: 'zlib', clusterSize: 65536 });
    const { offset, hostOffset } = await firstCompressed(base);
    writeFileSync(base, readFileSync(base).fill(0xff, hostOffset, hostOffset + 40));
    const path = overlay(base, 'qcow2');
    served = new Served(path, { helper: await helperFor(path) });

    served.arrive(0, READ, offset, 4096);
    const read = served.answersOf(0);
    const partly = served.write(offset, pattern(SECTOR));
    const whole = served.write(offset, pattern(65_536));
    served.close();

    expect([...read, partly, whole]).toEqual([EIO, EIO, 65_536]);
    expect(served.failures[0].code).toBe('ERR_IO');
    expect(served.failures[0].message).toMatch(/image\.qcow2': .* cannot be decompressed/);
    expect(() => execFileSync('qemu-img', ['check', '-f', 'qcow2', path])).not.toThrow();
  });

  test('is not waited for when the helper is lost while it opens it', async () => {
    const { base } = rawBase(SIZE);
    const path = overlay(base, 'raw');
    const { backing } = await helperFor(path);
    const options = { backing, start: ({ wakeDescriptor }: HelperData) => void wakeDescriptor };
    const lose = { writable: true, helper: options, lostOnOpening: 'it fell off' };

    expect(() => new Served(path, lose)).toThrow('it fell off');
  });
});
