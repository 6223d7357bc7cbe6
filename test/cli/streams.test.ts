/** Standard streams: images that pass through them, and output that cannot be written or that nobody reads any more. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, MAIN, mustQemuImg, type Outcome, qemuIo } from './run-corral.js';
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

describe('convert', () => {
  /** A disk whose last sector is not whole, with zeros in it. */
  function newDisk(): Buffer {
    const disk = Buffer.alloc(3_000_100);
    readFileSync(process.execPath).copy(disk, 500_000, 0, 1_500_000);
    disk.fill(7, 2_999_000);
    return disk;
  }

  /** `corral convert ARGS` with a line of bash around it, and the temporary files it left behind. */
  function convertInShell(line: string, folder: string): Outcome & { left: string[] } {
    const temporary = join(folder, 'temporary');
    mkdirSync(temporary, { recursive: true });
    const script = `corral() { "$0" "$@"; }; set -o pipefail; cd "$1"; shift; ${line.replaceAll('corral', 'corral "$@"')}`;
    const options = { encoding: 'utf8', timeout: 60_000, env: { ...process.env, TMPDIR: temporary } } as const;
    const outcome = spawnSync('bash', ['-c', script, process.execPath, folder, MAIN, 'convert'], options);
    return { ...outcome, left: readdirSync(temporary) };
  }

  test.each(['', '-c', '-o extended_l2=on', '-o cluster_size=2M,compat=0.10'])(
    'reads standard input and writes standard output: -O qcow2 %s, and back',
    (options) => {
      const folder = temporaryFolder();
      writeFileSync(join(folder, 'disk'), newDisk());

      const there = convertInShell(`cat disk | corral -O qcow2 ${options} - - | cat > image`, folder);
      const back = convertInShell('cat image | corral - - | cat > copy', folder);

      expect(there).toMatchObject({ status: 0, stderr: '', left: [] });
      expect(back).toMatchObject({ status: 0, stderr: '', left: [] });
      mustQemuImg('check', join(folder, 'image'));
      mustQemuImg('compare', '-f', 'raw', '-F', 'qcow2', join(folder, 'disk'), join(folder, 'image'));
      const copy = readFileSync(join(folder, 'copy'));
      // Disks are whole sectors.
      expect(copy.length).toBe(3_000_320);
      expect(copy.subarray(0, 3_000_100).equals(newDisk())).toBe(true);
    },
  );

  test.each(['cluster_size=2k', 'cluster_size=64k', 'cluster_size=2M', 'refcount_bits=1,cluster_size=4k'])(
    'writes an image with %s in one pass',
    (options) => {
      const folder = temporaryFolder();
      writeFileSync(join(folder, 'base.raw'), newDisk());
      mustQemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', join(folder, 'base.raw'), join(folder, 'base'));
      mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', join(folder, 'disk'), '1T');
      qemuIo(join(folder, 'disk'), 'write -P 9 100k 200k', 'write -z 1M 64k', 'write -P 8 1023G 1M');

      const { status, stderr, left } = convertInShell(`corral -O qcow2 -o ${options} disk - | cat > image`, folder);

      expect({ status, stderr, left }).toEqual({ status: 0, stderr: '', left: [] });
      mustQemuImg('check', join(folder, 'image'));
      mustQemuImg('compare', '-U', join(folder, 'disk'), join(folder, 'image'));
    },
  );

  test('says what could not be read in the middle of a stream', () => {
    const folder = temporaryFolder();
    const image = join(folder, 'disk');
    writeFileSync(`${image}.raw`, newDisk());
    mustQemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', `${image}.raw`, image);
    const bytes = readFileSync(image);
    bytes.fill(0xff, bytes.length - 4096);
    writeFileSync(image, bytes);

    const { status, stderr, left } = convertInShell('corral -O qcow2 disk - | cat > image', folder);

    expect({ status, left }).toEqual({ status: 1, left: [] });
    expect(stderr).toMatch(/^corral: Error while reading 'disk': .*\n$/);
  });

  test('ends quietly when the reader of its stream has left', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'disk'), newDisk());

    const { stderr, left } = convertInShell(
      '(corral -f raw -O qcow2 disk -; echo $? >&2) | head -c 1000 > start',
      folder,
    );

    expect({ stderr, left }).toEqual({ stderr: '141\n', left: [] });
  });

  test('reads standard input into a file', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'disk'), newDisk());

    expect(convertInShell('corral -f raw -O qcow2 - image < disk', folder)).toMatchObject({ status: 0, left: [] });

    mustQemuImg('compare', '-f', 'raw', '-F', 'qcow2', join(folder, 'disk'), join(folder, 'image'));
  });

  test('says what is wrong with a stream by its name, and leaves nothing behind', () => {
    const folder = temporaryFolder();

    const { status, stderr, stdout, left } = convertInShell('head -c 1000 /dev/zero | corral -f qcow2 - -', folder);

    expect({ status, stdout, left }).toEqual({ status: 1, stdout: '', left: [] });
    expect(stderr).toBe("corral: Could not open '-': Image is not in qcow2 format\n");
  });

  test('says that standard output is full, and leaves nothing behind', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'disk'), newDisk());

    const { status, stderr, left } = convertInShell('corral disk - > /dev/full', folder);

    expect({ status, stderr, left }).toEqual({
      status: 1,
      stderr: 'corral: Standard output: No space left on device\n',
      left: [],
    });
  });

  test.each([
    { args: ['-', '-', 'image'], says: 'Standard input can be a source only once' },
    { args: ['-n', 'disk', '-'], says: 'Standard output is no image that exists: -n cannot be used' },
    { args: ['-p', 'disk', '-'], says: 'Progress cannot be shown: standard output is the target' },
  ])('refuses $args', ({ args, says }) => {
    expect(corral(['convert', ...args])).toEqual({ status: 1, stdout: '', stderr: `corral: ${says}\n` });
  });
});
