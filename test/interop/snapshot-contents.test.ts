/** What snapshots hold besides plain clusters: saved machine states, and disks of every kind, read without being applied. */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openImage, pathGate } from '../../host/node/index.js';
import { expectSameBytes } from '../same-bytes.js';
import { temporaryFolder } from '../temporary-folder.js';
import { checkWithQemu, readWithCorral, readWithQemu, runWithQemu } from './guest-steps.js';

const MIB = 1 << 20;
const SIZE = 8 * MIB;

describe('a saved machine state, which lies behind the end of the disk', () => {
  test.each([{ clusterSize: 512 }, { clusterSize: 4096 }, { clusterSize: 65536 }])(
    'with clusters of $clusterSize is kept when snapshots are made, applied and deleted, and the disk gets another size',
    async ({ clusterSize }) => {
      const path = newImage(`cluster_size=${clusterSize}`);
      qemuIo(path, 'write -P 1 0 3M', 'write -b -P 7 0 300k');
      qemuImg('snapshot', '-c', 'running', path);
      qemuIo(path, 'write -b -P 8 0 300k', 'write -P 2 1M 3M');
      await using image = await openImage(path, { write: true });

      await image.snapshots.create({ name: 'later' });
      await image.write(0, new Uint8Array(2 * MIB).fill(3));
      await image.snapshots.apply('running');
      await image.flush();
      const states = [stateOf(path, 7)];
      await image.snapshots.apply('later');
      await image.flush();
      states.push(stateOf(path, 8));
      await image.resize(64 * MIB);
      await image.snapshots.delete('later');
      await image.snapshots.apply('running');
      await image.close();
      states.push(stateOf(path, 7));

      expect(states).toEqual(['as it was', 'as it was', 'as it was']);
      checkWithQemu(path, 'in the end');
    },
  );
});

describe('a snapshot that is read without being applied', () => {
  test.each([
    { kind: 'with subclusters', options: 'extended_l2=on', commands: ['write -P 3 5k 2k', 'write -z -u 70k 100k'] },
    { kind: 'with zstd', options: 'compression_type=zstd', commands: ['write -c -P 4 4M 64k', 'write -c -P 5 5M 64k'] },
    { kind: 'with zlib', options: 'cluster_size=4k', commands: ['write -c -P 4 3M 4k', 'write -P 5 1M 64k'] },
    { kind: 'of version 2', options: 'compat=0.10,cluster_size=1k', commands: ['write -P 6 3k 9k', 'discard 4k 2k'] },
  ])('$kind is what QEMU finds in it', async ({ options, commands }) => {
    const path = newImage(options);
    qemuIo(path, 'write -P 1 0 2M', ...commands);
    qemuImg('snapshot', '-c', 'then', path);
    qemuIo(path, 'write -P 9 0 4M', 'write -z 5M 1M');

    expectSameBytes(await readWithCorral(path, { snapshot: 'then' }), readWithQemu(path, 'then'));
  });

  test('shows the backing file where it has nothing, and ends where the disk ended then', async () => {
    const folder = temporaryFolder();
    const base = join(folder, 'base.qcow2');
    const path = join(folder, 'overlay.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', base, String(SIZE));
    runWithQemu(base, [{ kind: 'write', offset: 0, length: SIZE, value: 5 }]);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', path);
    qemuIo(path, 'write -P 6 1M 1M');
    qemuImg('snapshot', '-c', 'then', path);
    qemuIo(path, 'write -P 7 0 4M');
    qemuImg('resize', '-q', path, '20M');

    const bytes = await readWithCorral(path, { snapshot: 'then', gate: pathGate() });

    expect(bytes.length).toBe(SIZE);
    // QEMU shows as much as the disk has now.
    expectSameBytes(bytes, readWithQemu(path, 'then').subarray(0, SIZE));
  });
});

function newImage(options: string): string {
  const path = join(temporaryFolder(), 'image.qcow2');
  qemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, String(SIZE));
  return path;
}

/** Whether the state of the disk as it is now is still that pattern. */
function stateOf(path: string, pattern: number): string {
  const output = execFileSync('qemu-io', ['-r', '-U', '-f', 'qcow2', '-c', `read -b -P ${pattern} 0 300k`, path], {
    encoding: 'utf8',
  });
  return output.includes('read 307200/307200') && !output.includes('verification') ? 'as it was' : output;
}

function qemuIo(path: string, ...commands: string[]): void {
  const output = execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path], {
    encoding: 'utf8',
  });
  if (/error|failed/i.test(output)) throw new Error(output);
}

function qemuImg(...args: string[]): void {
  execFileSync('qemu-img', args);
}
