/** The shell as a program: by its own name and by a link, its signals, its streams. */

import { spawnSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { IMAGE } from './run-io.js';

const MAIN = join(import.meta.dirname, '../../dist/host/cli/io/main.js');

function run(
  program: string,
  args: readonly string[],
  input = '',
): { status: number | null; signal: string | null; stdout: string; stderr: string } {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    input,
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { status, signal, stdout, stderr };
}

function image(): string {
  const folder = temporaryFolder();
  IMAGE.make(folder);
  return join(folder, 'disk');
}

test('by its own name', () => {
  expect(run(MAIN, [image()], 'length\nq\n')).toMatchObject({ status: 0, stdout: 'corral-io> 10 MiB\ncorral-io> ' });
  expect(run(MAIN, ['/nothing/there']).stderr).toMatch(/^corral-io: can't open device \/nothing\/there: /);
});

test('by a link it is qemu-io', () => {
  const link = join(temporaryFolder(), 'qemu-io');
  symlinkSync(MAIN, link);

  expect(run(link, [image()], 'length\n')).toMatchObject({ status: 0, stdout: 'qemu-io> 10 MiB\nqemu-io> ' });
  expect(run(link, ['/nothing/there']).stderr).toMatch(/^qemu-io: can't open device /);
  expect(run(link, ['-V']).stdout).toMatch(/^qemu-io version 10\.0\.2 /);
});

test.each([
  ['sigraise 9', 'SIGKILL'],
  ['sigraise 15', 'SIGTERM'],
  ['abort', 'SIGABRT'],
])('%s ends it at once, and what was flushed before is there', (command, signal) => {
  const path = image();

  const outcome = run(MAIN, ['-c', 'write -P 9 0 64k', '-c', 'flush', '-c', command, '-c', 'length', path]);

  expect(outcome.signal).toBe(signal);
  expect(outcome.stdout).toMatch(/^wrote 65536\/65536 bytes at offset 0\n.*\n$/);
  expect(run(MAIN, ['-c', 'read -P 9 0 64k', path]).status).toBe(0);
});

test('a request that waits for a break that nobody resumes ends with an error', () => {
  const outcome = run(MAIN, ['-c', 'break write_aio A', '-c', 'write 0 64k', `blkdebug::${image()}`]);

  expect(outcome).toMatchObject({ status: 1, stdout: "blkdebug: Suspended request 'A'\n" });
  expect(outcome.stderr).toMatch(/^corral-io: A request is held at a breakpoint/);
});
