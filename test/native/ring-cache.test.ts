/** Another metadata cache while the ring serves, with the kernel's part played by the test. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { TurnMode } from '../../host/node/addon.js';
import { startHelperThread } from '../../host/node/helper-thread.js';
import { openImage } from '../../host/node/index.js';
import { carryOut, type UblkEngineStatistics } from '../../host/node/ublk-verbs.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { readByQemu } from './images.js';
import { pattern, RingFixture } from './ring-fixture.js';
import { DEPTH, READ, Served, WRITE } from './served.js';

const MIB = 1 << 20;
const SIZE = 8 * MIB;

let served: Served | undefined;

afterEach(() => {
  served?.end();
  served = undefined;
});

function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8' });
}

/** A disk of 4 KiB clusters, alone or over a base. */
async function serve({ over = false, dataFile = false, bitmap = false }) {
  const folder = temporaryFolder();
  const [path, base, data] = ['disk.qcow2', 'base.raw', 'data.raw'].map((name) => join(folder, name));
  const contents = new Uint8Array(SIZE);
  if (over) contents.fill(9, 0, 3 * MIB);
  writeFileSync(base, contents);
  const options = dataFile ? `cluster_size=4k,data_file=${data}` : 'cluster_size=4k';
  const backing = over ? ['-b', base, '-F', 'raw'] : [];
  qemuImg('create', '-q', '-f', 'qcow2', ...backing, '-o', options, path, String(SIZE));
  if (bitmap) qemuImg('bitmap', '--add', path, 'changes');
  await using image = await openImage(path, { inspect: true });
  const behind = { path, facts: image.info, write: true, mayOpen: 'any' as const };
  const disk = new Served(path, {
    helper: { start: (asked) => startHelperThread(asked, () => {}), ...(over ? { backing: behind } : {}) },
    ...(dataFile ? { dataFile: data } : {}),
  });
  served = disk;
  const change = (size: number): Promise<unknown> => carryOut(disk.engine, { name: 'changeCache', size }, disk.facts);
  const statistics = async () =>
    (await carryOut(disk.engine, { name: 'statistics' }, disk.facts)) as UblkEngineStatistics;
  return { path, contents, disk, change, statistics };
}

describe.each([
  { name: 'an image with a bitmap', bitmap: true },
  { name: 'an overlay', over: true },
  { name: 'an image with a data file', dataFile: true },
])('the cache of $name', (kind) => {
  test('changes while requests come, and each of them is answered with what it asked for', async () => {
    const seed = chooseSeed();
    const random = randomFrom(seed);
    const { path, contents, disk, change, statistics } = await serve(kind);
    const sizes = new Set<number>();

    for (let round = 0; round < 30; round++) {
      const wanted: { tag: number; kind: number; offset: number; length: number }[] = [];
      for (let tag = 0; tag < DEPTH; tag++) {
        const length = 512 * (1 + below(random, 100));
        const offset = tag * MIB + 512 * below(random, 1900);
        const operation = below(random, 3) === 0 ? READ : WRITE;
        if (operation === WRITE) {
          const bytes = pattern(length, round * DEPTH + tag);
          disk.buffer(tag, length).set(bytes);
          contents.set(bytes, offset);
        }
        wanted.push({ tag, kind: operation, offset, length });
      }
      // Some are in the core by then, some come while it is changed.
      const early = below(random, DEPTH + 1);
      for (const { tag, kind: operation, offset, length } of wanted.slice(0, early)) {
        disk.arrive(tag, operation, offset, length);
      }
      for (let steps = below(random, 4); steps > 0; steps--) disk.engine.step(TurnMode.Poll);
      for (const { tag, kind: operation, offset, length } of wanted.slice(early)) {
        disk.arrive(tag, operation, offset, length);
      }
      await change(below(random, 5) * MIB);
      const answers = disk.answersOf(...wanted.map(({ tag }) => tag));

      expect(answers, `seed ${seed}, round ${round}`).toEqual(wanted.map(({ length }) => length));
      for (const { tag, kind: operation, offset, length } of wanted) {
        if (operation === READ) {
          const context = `seed ${seed}, round ${round}, tag ${tag}`;
          expectSameBytes(disk.buffer(tag, length), contents.subarray(offset, offset + length), context);
        }
      }
      sizes.add((await statistics()).cacheSize);
    }

    expect(sizes.size, `seed ${seed}`).toBeGreaterThan(2);
    expect((await statistics()).violations).toBe(0);
    expectSameBytes(disk.readAll(0, SIZE), contents, `seed ${seed}`);
    disk.close();
    expect(qemuImg('check', path)).toContain('No errors');
    expectSameBytes(readByQemu(path), contents, `seed ${seed}, QEMU`);
  });
});

test('a cache for which there is no memory is refused, and the disk goes on', async () => {
  const { path, contents, disk, change, statistics } = await serve({});
  const before = (await statistics()).cacheSize;
  contents.set(pattern(4096, 1), MIB);
  disk.write(MIB, pattern(4096, 1));

  await expect(change(2 ** 32 - 1)).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });

  expect((await statistics()).cacheSize).toBe(before);
  expectSameBytes(disk.readAll(0, SIZE), contents);
  disk.close();
  expect(qemuImg('check', path)).toContain('No errors');
});

test('a ring takes no memory with other numbers of records, nor with records outside of it', () => {
  using fixture = new RingFixture(pattern(4096));
  const { ring } = fixture;
  const memory = new ArrayBuffer(65_536);
  const records = { operations: 1024, operationCapacity: 16, requests: 8192, requestCapacity: 8 };

  const taken = [{}, { requestCapacity: 7 }, { operationCapacity: 17 }, { requests: 65_400 }, { operations: 4 }].map(
    (wrong) => {
      try {
        ring.setMemory({ memory, ...records, ...wrong });
        return true;
      } catch (error) {
        expect(error).toMatchObject({ code: 'EINVAL' });
        return false;
      }
    },
  );

  expect(taken).toEqual([true, false, false, false, false]);
});
