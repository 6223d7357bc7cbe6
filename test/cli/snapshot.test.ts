/** `corral snapshot` beside `qemu-img snapshot`, and `convert -l`. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corral } from './run-corral.js';

const COLUMNS = 'ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT';

function makeImage(): string {
  const path = join(temporaryFolder(), 'image.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
  write(path, 1);
  return path;
}

function write(path: string, value: number): void {
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P ${value} 0 128k`, path]);
}

function firstByte(path: string, ...options: string[]): number | undefined {
  const raw = `${path}.raw`;
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', ...options, '-O', 'raw', path, raw]);
  return readFileSync(raw)[0];
}

test('the list is what qemu-img prints', () => {
  const path = makeImage();
  corral(['snapshot', '-c', 'first', path]);
  execFileSync('qemu-img', ['snapshot', '-c', 'a name that is too long for its column', path]);

  const ours = corral(['snapshot', path]);

  expect(ours.stdout).toBe(execFileSync('qemu-img', ['snapshot', '-l', path], { encoding: 'utf8' }));
  expect(ours.stdout.split('\n')[1]).toBe(COLUMNS);
  expect(ours.status).toBe(0);
});

test('a snapshot is made, applied, copied and deleted', () => {
  const path = makeImage();
  corral(['snapshot', '-c', 'one', path]);
  write(path, 2);

  const copied = join(temporaryFolder(), 'copy.raw');
  corral(['convert', '-l', 'one', path, copied]);
  corral(['convert', '-l', 'snapshot.id=1', path, `${copied}.id`]);
  const before = firstByte(path);
  corral(['snapshot', '-a', '1', path]);
  const after = firstByte(path);
  const deleted = corral(['snapshot', '-d', 'one', path]);

  expect([readFileSync(copied)[0], readFileSync(`${copied}.id`)[0], before, after]).toEqual([1, 1, 2, 1]);
  expect(deleted).toMatchObject({ status: 0, stdout: '' });
  expect(execFileSync('qemu-img', ['snapshot', '-l', path], { encoding: 'utf8' })).toBe('');
  execFileSync('qemu-img', ['check', '-q', path]);
});

test.each([
  [['-a', 'nobody'], /Could not apply snapshot 'nobody': Failed to load snapshot: No such file or directory/],
  [['-d', 'nobody'], /Could not delete snapshot 'nobody': snapshot not found/],
])('%j fails with one line', (options, line) => {
  const path = makeImage();

  const { status, stderr } = corral(['snapshot', ...options, path]);

  expect(status).toBe(1);
  expect(stderr).toMatch(line);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
});

test('convert refuses a snapshot that is not there', () => {
  const path = makeImage();

  const { status, stderr } = corral(['convert', '-l', 'nobody', path, `${path}.raw`]);

  expect(status).toBe(1);
  expect(stderr).toMatch(/Failed to load snapshot: Can't find snapshot/);
});
