/** Standard output that cannot be written, or that nobody reads any more: the same for both programs. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MAIN, type Outcome } from './run-corral.js';
import { newImage } from './sample-images.js';

const SHELL_MAIN = join(import.meta.dirname, '../../dist/host/cli/io/main.js');

/** Arguments with which each program prints something about an image. */
const PROGRAMS = [
  { program: 'corral', main: MAIN, args: (path: string) => ['info', path] },
  { program: 'corral-io', main: SHELL_MAIN, args: (path: string) => ['-c', 'length', path] },
];

/** Runs a line of bash in which `program` is the command. */
function inShell(line: string, main: string, args: readonly string[]): Outcome {
  const script = `program() { "$0" "$@"; }; ${line}`;
  return spawnSync('bash', ['-c', script, process.execPath, main, ...args], { encoding: 'utf8', timeout: 30_000 });
}

describe.each(PROGRAMS)('$program', ({ program, main, args }) => {
  test('says that its output could not be written', () => {
    const { status, stderr } = inShell('program "$@" > /dev/full', main, args(newImage()));

    expect({ status, stderr }).toEqual({ status: 1, stderr: `${program}: Standard output: No space left on device\n` });
  });

  test('ends quietly when its reader has left', () => {
    const { stdout, stderr } = inShell('(sleep 0.3; program "$@"; echo $? >&2) | true', main, args(newImage()));

    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: '141\n' });
  });
});
