import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { corral, mustQemuImg } from './run-corral.js';
import { newImage, writtenImage } from './sample-images.js';

const ROOT = join(import.meta.dirname, '../..');
const { bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { bin: Record<string, string> };
const PROGRAM = join(ROOT, bin.corral as string);

/** The command as it is installed. */
function installed(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(PROGRAM, args, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

describe('the installed command, which is one of a few files', () => {
  test('says what the one of many files says', () => {
    const path = writtenImage();

    expect(installed('info', path)).toEqual(corral(['info', path]));
    expect(installed('map', path)).toEqual(corral(['map', path]));
    expect(installed('--version')).toEqual(corral(['--version']));
  });

  test('takes part in locking: it has the addon', async () => {
    const path = newImage();
    const { NodeFile } = await import('../../host/node/index.js');
    const writer = await NodeFile.open(path, { write: true });

    const { status, stderr } = installed('info', path);
    await writer.close();

    expect(status).toBe(1);
    expect(stderr).toContain('Failed to get shared "write" lock');
  });

  test.each(['zlib', 'zstd'])('has the codec of %s', (type) => {
    const source = writtenImage();
    const [packed, unpacked] = [`${source}.packed`, `${source}.unpacked`];

    const packing = installed('convert', '-c', '-O', 'qcow2', '-o', `compression_type=${type}`, source, packed);
    const unpacking = installed('convert', '-O', 'qcow2', packed, unpacked);

    expect([packing, unpacking]).toMatchObject([{ status: 0 }, { status: 0 }]);
    mustQemuImg('check', packed);
    mustQemuImg('compare', source, packed);
    mustQemuImg('compare', source, unpacked);
  });
});
