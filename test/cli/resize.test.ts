/** `corral resize` says and does what `qemu-img resize` does. */

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, mustQemuImg, qemuImg, qemuIo } from './run-corral.js';

const MIB = 1 << 20;

function makeImage(): string {
  const path = join(temporaryFolder(), 'x');
  mustQemuImg('create', '-q', '-f', 'qcow2', path, '10M');
  qemuIo(path, 'write -P 7 0 10M');
  return path;
}

function sizeOf(path: string): number {
  return (JSON.parse(mustQemuImg('info', '--output=json', path)) as { 'virtual-size': number })['virtual-size'];
}

/** Arguments before and behind the file's name. */
const CALLS: [before: string[], size: string][] = [
  [[], '20M'],
  [['-q'], '11M'],
  [[], '+5M'],
  [[], '10M'],
  [['--shrink'], '5M'],
  [['--shrink'], '-1M'],
  [['--shrink'], '512'],
  [['-f', 'qcow2', '--preallocation=off'], '1T'],
  [[], '5M'],
  [[], '-1M'],
  [[], '-10M'],
  [[], '-20M'],
  [[], '0'],
  [['--shrink'], '0'],
  [[], '+0'],
  [[], '10486000'],
  [['--shrink', '--preallocation=full'], '1M'],
  [['--preallocation=some'], '20M'],
  [['--preallocation=metadata'], '20M'],
  [['--preallocation=falloc'], '+10M'],
  [['--preallocation=full'], '20M'],
  [['--preallocation=full'], '10M'],
  [['--preallocation=full'], '5M'],
];

describe('corral resize does what qemu-img resize does', () => {
  test.each(CALLS.map(([before, size]) => [[...before, size].join(' '), before, size] as const))(
    '%s',
    async (_, before, size) => {
      const ours = makeImage();
      const theirs = makeImage();

      const outcome = await corralHere('resize', ...before, ours, size);

      const expected = qemuImg(['resize', ...before, theirs, size]);
      expect(outcome.status).toBe(expected.status);
      expect(outcome.stdout).toBe(expected.stdout);
      const lines = (text: string) =>
        text
          .replace(/^(corral|qemu-img): /gm, '')
          .split('\n')
          .sort();
      expect(lines(outcome.stderr)).toEqual(lines(expected.stderr));
      expect(sizeOf(ours)).toBe(sizeOf(theirs));
      expect(qemuImg(['check', ours]).status).toBe(0);
      expect(qemuImg(['compare', ours, theirs]).status).toBe(0);
    },
  );
});

test.each(['', 'big', '1e3', '+-5M', '-', '9E9'])('%j is no size', async (size) => {
  const path = makeImage();

  const { status, stderr } = await corralHere('resize', path, size);

  expect(status).toBe(1);
  expect(stderr).toMatch(/^corral: .*parameter 'size'|^corral: Parameter 'size'/);
  expect(sizeOf(path)).toBe(10 * MIB);
});

test('a raw file is resized, with a warning when its format is only guessed', async () => {
  const path = join(temporaryFolder(), 'x');
  mustQemuImg('create', '-q', '-f', 'raw', path, '1M');

  const guessed = await corralHere('resize', path, '2M');
  const given = await corralHere('resize', '-f', 'raw', path, '3M');

  expect(guessed).toMatchObject({ status: 0, stderr: expect.stringMatching(/^WARNING: .*guessed raw\./) });
  expect(given).toMatchObject({ status: 0, stdout: 'Image resized.\n', stderr: '' });
  expect(statSync(path).size).toBe(3 * MIB);
});
