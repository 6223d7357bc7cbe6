/** The guest of several queues is held, for what has to be alone with their image, and goes on. */
import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { makeSharedParts } from '../../host/node/core-sharing.js';
import type { HelperData } from '../../host/node/helper-messages.js';
import { startHelperThread } from '../../host/node/helper-thread.js';
import { openImage } from '../../host/node/index.js';
import { chooseSeed } from '../random.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';

const THREADS = 2;
const DEPTH = 8;
const STRETCH = 131_072;
const SIZE = THREADS * DEPTH * STRETCH;

interface Message {
  parts?: object;
  helper?: HelperData;
  model?: Uint8Array;
  wrong?: number;
  violations?: number;
}

type Ended = Required<Pick<Message, 'model' | 'wrong' | 'violations'>>;

function startThread(data: object): { opened: Promise<object>; ended: Promise<Ended> } {
  const worker = new Worker(new URL('./shared-hold-worker.mjs', import.meta.url), { workerData: data });
  const of = <T>(pick: (message: Message) => T | undefined): Promise<T> => {
    const found = new Promise<T>((resolve, reject) => {
      worker.on('message', (message: Message) => {
        const picked = pick(message);
        if (picked !== undefined) resolve(picked);
      });
      worker.on('error', reject);
      worker.on('exit', () => reject(new Error('a thread ended early')));
    });
    found.catch(() => {});
    return found;
  };
  worker.on('message', ({ helper }: Message) => {
    if (helper !== undefined) startHelperThread(helper, () => {});
  });
  return {
    opened: of(({ parts }) => parts),
    ended: of((message) => (message.model === undefined ? undefined : (message as Ended))),
  };
}

test('two queues wait for a commit, are answered after it, and QEMU finds what they wrote', async () => {
  const seed = chooseSeed();
  const folder = temporaryFolder();
  const [base, path, raw] = ['base.qcow2', 'over.qcow2', 'raw'].map((name) => join(folder, name));
  const qemuImg = (...args: string[]): string => execFileSync('qemu-img', args, { encoding: 'utf8' });
  const contents = new Uint8Array(SIZE).fill(3, 0, SIZE / 2);
  writeFileSync(raw, contents);
  qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', 'cluster_size=4k', raw, base);
  qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', '-o', 'cluster_size=4k', path);
  await using image = await openImage(path, { inspect: true });
  const backing = { path, facts: image.info, write: true, mayOpen: 'any' };
  const descriptor = openSync(path, 'r+');
  const common = {
    descriptor,
    fileLength: fstatSync(descriptor).size,
    backing,
    contents,
    stretch: STRETCH,
    over: new SharedArrayBuffer(8),
    answered: new SharedArrayBuffer(4 * THREADS),
  };
  const commit = { name: 'commit', keep: false, bytesPerSecond: 0 };
  const verbs = [{ name: 'hold' }, commit, { name: 'hold' }, { ...commit, keep: true }, commit];

  const first = startThread({ ...common, thread: 0, parts: makeSharedParts(THREADS, DEPTH), verbs, seed });
  const second = startThread({ ...common, thread: 1, parts: await first.opened, verbs: [], seed: seed + 1 });
  const ends = await Promise.all([first.ended, second.ended]);
  closeSync(descriptor);

  for (const { wrong, violations } of ends)
    expect({ wrong, violations }, `seed ${seed}`).toEqual({ wrong: 0, violations: 0 });
  for (const checked of [base, path]) expect(qemuImg('check', checked)).toContain('No errors');
  qemuImg('convert', '-O', 'raw', path, raw);
  expectSameBytes(readFileSync(raw), Buffer.concat(ends.map(({ model }) => model)), `seed ${seed}`);
});
