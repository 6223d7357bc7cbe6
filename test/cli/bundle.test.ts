import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, mustQemuImg, type Outcome, qemuIo } from './run-corral.js';
import { newImage, writtenImage } from './sample-images.js';

const ROOT = join(import.meta.dirname, '../..');
const { bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { bin: Record<string, string> };
/** The command as it is installed. */
function installed(...args: string[]) {
  return installedAs('corral', args);
}

function installedAs(name: string, args: readonly string[], main?: string): Outcome {
  const program = join(ROOT, main ?? (bin[name] as string));
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** Tells how V8 took what was kept for it. */
const WATCH = `
  const vm = require('node:vm');
  vm.Script = class extends vm.Script {
    constructor(...args) {
      super(...args);
      require('node:fs').writeSync(2, 'rejected: ' + this.cachedDataRejected);
    }
  };`;

test.each(['corral --version', 'corral info --help', 'corral-io --version'])(
  '%s reads what V8 made of it before',
  (line) => {
    const [name = '', ...args] = line.split(' ');
    const hook = join(temporaryFolder(), 'hook.cjs');
    writeFileSync(hook, WATCH);

    const { stderr } = spawnSync(process.execPath, ['--require', hook, join(ROOT, bin[name] as string), ...args], {
      encoding: 'utf8',
    });

    expect(stderr).toBe('rejected: false');
  },
);

describe.each(['corral', 'corral-io'])('the start of %s', (name) => {
  test('reads the program where nothing was kept for this version of Node', () => {
    const folder = dirname(join(ROOT, bin[name] as string));
    const program = join(temporaryFolder(), 'a/b/c');
    cpSync(folder, program, { recursive: true, filter: (path) => !path.endsWith('.cache') });
    copyFileSync(join(ROOT, 'package.json'), join(program, '../../../package.json'));

    const { status, stdout, stderr } = spawnSync(join(program, 'main.cjs'), ['--version'], { encoding: 'utf8' });

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(new RegExp(`^${name} \\d`));
  });
});

describe('the installed command, which is a few files', () => {
  test('says what the one of many files says', () => {
    const path = writtenImage();

    expect(installed('info', path)).toEqual(corral(['info', path]));
    expect(installed('-T', 'x', 'info', path)).toEqual(corral(['info', path]));
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

test('info, which has a file of its own, follows a chain and looks into what is encrypted', () => {
  const [base, overlay] = ['locked', 'overlay'].map((name) => join(temporaryFolder(), name));
  const encryption = ['-o', 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10'];
  mustQemuImg('create', '-q', '-f', 'qcow2', '--object', 'secret,id=key,data=x', ...encryption, base as string, '1M');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-b', base as string, '-F', 'qcow2', '-u', overlay as string, '1M');
  const args = ['info', '--backing-chain', '--output=json', overlay as string];

  const { status, stdout, stderr } = installed(...args);

  expect({ status, stdout, stderr }).toEqual(corral(args));
  expect(JSON.parse(stdout)).toMatchObject([{}, { encrypted: true }]);
});

describe('the installed shell', () => {
  test('says what the one of many files says', () => {
    const shell = (...args: string[]) => installedAs('corral-io', args);
    const unbundled = (...args: string[]) => installedAs('corral-io', args, 'dist/host/cli/io/main.js');
    const path = writtenImage();

    expect(shell('-c', 'map', path)).toEqual(unbundled('-c', 'map', path));
    expect(shell('-c', 'help')).toEqual(unbundled('-c', 'help'));
    expect(shell('--version')).toEqual(unbundled('--version'));
    expect(shell('--version').stdout).toMatch(/^corral-io \d/);
  });

  test.each(['zlib', 'zstd'])('has the codec of %s', (type) => {
    const path = newImage(`compression_type=${type}`);

    const { status, stdout, stderr } = installedAs('corral-io', ['-c', 'write -c -P 7 0 64k', path]);

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^wrote 65536\/65536 bytes/);
    qemuIo(path, 'read -P 7 0 64k');
    mustQemuImg('check', path);
  });
});
