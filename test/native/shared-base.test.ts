/** Overlays of one base, each on a ring of its own: one helper thread reads the base for all of them. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { startHelperThread } from '../../host/node/helper-thread.js';
import { openImage } from '../../host/node/index.js';
import { carryOut } from '../../host/node/ublk-verbs.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { mixedContents, SIZE } from './images.js';
import { pattern } from './ring-fixture.js';
import { Served } from './served.js';

const served: Served[] = [];

afterEach(() => {
  for (const one of served.splice(0)) one.end();
});

function makeBase(): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'base.raw'), mixedContents());
  const path = join(folder, 'base.qcow2');
  execFileSync('qemu-img', ['convert', '-c', '-O', 'qcow2', join(folder, 'base.raw'), path]);
  return path;
}

async function serveOverlay(base: string, name: string): Promise<Served> {
  const path = join(base, '..', name);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', path]);
  await using image = await openImage(path, { inspect: true });
  const backing = { path, facts: image.info, write: true, mayOpen: 'any' as const };
  const one = new Served(path, { helper: { start: (data) => startHelperThread(data, () => {}), backing } });
  served.push(one);
  return one;
}

/** How often this process has the file open. */
function descriptorsOf(path: string): number {
  return readdirSync('/proc/self/fd').filter((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`) === path;
    } catch {
      return false;
    }
  }).length;
}

/** Without those that the kernel has for rings. */
function threadCount(): number {
  return readdirSync('/proc/self/task').filter((task) => {
    return !readFileSync(`/proc/self/task/${task}/comm`, 'utf8').startsWith('iou-');
  }).length;
}

test('the base is open once, further overlays start no thread, and each has its own disk', async () => {
  const base = makeBase();
  const first = await serveOverlay(base, 'a.qcow2');
  const threads = threadCount();

  const others = [await serveOverlay(base, 'b.qcow2'), await serveOverlay(base, 'c.qcow2')];
  others[0].write(0, pattern(4096));
  const [disk, changed, unchanged] = [first, ...others].map((one) => one.readAll(0, SIZE));
  const counts = [descriptorsOf(base), threadCount() - threads];
  first.close();
  const rest = others[1].readAll(0, SIZE);
  others[0].close();
  others[1].close();

  const expected = mixedContents();
  expectSameBytes(disk, expected);
  expectSameBytes(unchanged, expected);
  expectSameBytes(rest, expected, 'without the first:');
  expectSameBytes(changed.subarray(4096), expected.subarray(4096));
  expectSameBytes(changed.subarray(0, 4096), pattern(4096));
  expect(counts).toEqual([1, 0]);
  expect(descriptorsOf(base)).toBe(0);
});

test('an overlay is not committed into a base that others use, and goes on', async () => {
  const base = makeBase();
  const [first, second] = [await serveOverlay(base, 'a.qcow2'), await serveOverlay(base, 'b.qcow2')];
  first.write(0, pattern(4096));

  const commit = carryOut(first.engine, { name: 'commit', keep: false, bytesPerSecond: 0 }, first.facts);

  await expect(commit).rejects.toMatchObject({ code: 'ERR_LOCKED' });
  expectSameBytes(first.readAll(4096, SIZE - 4096), mixedContents().subarray(4096));
  second.close();
  await carryOut(first.engine, { name: 'commit', keep: false, bytesPerSecond: 0 }, first.facts);
  expectSameBytes(first.readAll(0, 4096), pattern(4096));
  first.close();
});
