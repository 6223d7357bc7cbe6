import { spawnSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { MAIN, qemuImg, runHere } from './run-corral.js';

/** Command lines that are refused before a file is touched. */
const REFUSED: string[][] = [
  [],
  ['frobnicate'],
  ['-x'],
  ['--trace'],
  ['info'],
  ['info', 'a', 'b'],
  ['info', '--nope'],
  ['info', '--nope=3', 'x'],
  ['info', '-Z', 'x'],
  ['info', '-UZ', 'x'],
  ['info', '-f'],
  ['info', '-Uf'],
  ['info', '--outp'],
  ['info', '--out=xml', 'x'],
  ['info', '--f', 'x'],
  ['info', '--force-share=1', 'x'],
  ['info', '--', '--help', 'x'],
  ['create'],
  ['resize'],
  ['resize', 'x'],
  ['resize', '-f', 'qcow2'],
  ['resize', 'x', 'y', '+1'],
  ['check', '-r', 'some', 'x'],
  ['check', '--output=xml', 'x'],
  ['create', 'x', '1', '2'],
  ['map', '--ma', 'y', 'x'],
  ['map', '--sta', 'y', 'x'],
  ['snapshot', '-l', '-c', 'a', 'x'],
  ['bitmap', '--enable', '-g', '1k', 'a', 'b'],
  ['convert', 'x'],
];

describe('a command line is refused as by qemu-img:', () => {
  test.each(REFUSED.map((args) => [args.join(' '), args] as const))('%s', async (_, args) => {
    const ours = await runHere('qemu-img', args);

    const { status, stdout, stderr } = qemuImg(args);
    expect(ours).toEqual({ status, stdout, stderr });
  });
});

describe('a command line may have', () => {
  test.each([
    ['options behind operands', ['info', 'x', '-U', '--output', 'json']],
    ['letters in a row', ['info', '-Ufraw', 'x']],
    ['the beginning of a name', ['info', '--outp=json', '--backing', 'x']],
    ['two dashes before operands', ['info', '-f', 'raw', '--', '-x']],
    ['the last of several values', ['info', '--output=json', '--output=human', 'x']],
  ])('%s', async (_, args) => {
    const { stderr } = await runHere('qemu-img', args);

    expect(stderr).toMatch(/No such file or directory\n$/);
  });
});

test('called through a link named qemu-img, the program has that name in its lines', () => {
  const link = join(temporaryFolder(), 'qemu-img');
  symlinkSync(MAIN, link);

  const { stderr } = spawnSync(link, ['info', '/nowhere'], { encoding: 'utf8' });
  const { stdout } = spawnSync(link, ['--version'], { encoding: 'utf8' });

  expect(stderr).toMatch(/^qemu-img: Could not open '\/nowhere'/);
  expect(stdout).toMatch(/^qemu-img version 10\.0\.2 /);
});

test.each([
  [['create', '-f', 'qcow2', '-o', 'help'], 'create'],
  [['create', '-f', 'raw', '-o', 'help', 'x'], 'create'],
  [['convert', '-O', 'qcow2', '-o', '?', 'x', 'y'], 'convert'],
  [['amend', '-f', 'qcow2', '-o', 'help'], 'amend'],
])('%j lists options that qemu-img lists, too', async (args) => {
  const options = (text: string): string[] =>
    [...text.matchAll(/^ {2}(\S+=<.*>) +- /gm)].map(([, name]) => name as string);

  const { status, stdout } = await runHere('qemu-img', args);

  expect(status).toBe(0);
  expect(options(stdout).length).toBeGreaterThan(1);
  expect(options(qemuImg(args).stdout)).toEqual(expect.arrayContaining(options(stdout)));
});
