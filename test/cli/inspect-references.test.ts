import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere, MAIN, mustQemuImg, type Outcome } from './run-corral.js';
import { newImage, writtenImage } from './sample-images.js';

/** Images whose references lead to this path. */
const REFERENCES: Record<string, (target: string) => string> = {
  'a raw backing file': (target) => rebased(target, 'raw'),
  'a qcow2 backing file': (target) => rebased(target, 'qcow2'),
  'a backing file without a format': (target) => withoutFormat(rebased(target, 'raw')),
  'a backing file as file:': (target) => rebased(`file:${target}`, 'raw'),
  'a backing file as json:': (target) => rebased(`json:{"driver":"raw","file.filename":"${target}"}`, 'raw'),
  'a data file': (target) => created('qcow2', '-o', `data_file=${target}`),
  'a data file as json:': (target) => {
    const path = created('qcow2', '-o', `data_file=${target}`);
    // The name stands in an extension: it becomes one of the same length.
    const name = `json:{"file.filename":"${target}"}`;
    return edited(path, (bytes) => {
      const at = bytes.indexOf(target);
      bytes.writeUInt32BE(name.length, at - 4);
      bytes.fill(0, at, 4096);
      bytes.write(name, at);
    });
  },
  'the backing file of a qcow1 image': (target) => created('qcow', '-u', '-b', target, '-F', 'raw'),
  'the backing file of a QED image': (target) => created('qed', '-u', '-b', target, '-F', 'raw'),
  'an extent of a VMDK': (target) => {
    const path = join(temporaryFolder(), 'image.vmdk');
    const lines = ['# Disk DescriptorFile', 'version=1', 'createType="monolithicFlat"', `RW 8192 FLAT "${target}" 0`];
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  },
  'the parent of a VMDK': (target) =>
    edited(created('vmdk'), (bytes) => {
      const start = bytes.indexOf('# Disk DescriptorFile');
      bytes.write(`parentFileNameHint="${target}"\n`, bytes.indexOf(0, start));
    }),
  'the parent of a VHD': (target) =>
    edited(created('vpc'), (bytes) => {
      for (const footer of [0, bytes.length - 512]) bytes.writeUInt32BE(4, footer + 60);
      Buffer.from(target, 'utf16le')
        .swap16()
        .copy(bytes, 512 + 64);
    }),
  'the parent of a VHDX': (target) =>
    edited(created('vhdx'), (bytes) => {
      const table = bytes.indexOf('metadata');
      const parameters = bytes.indexOf(Buffer.from('3767a1ca36fa434db3b633f0aa44e76b', 'hex'), table);
      const item = table + bytes.readUInt32LE(parameters + 16);
      bytes.writeUInt32LE(bytes.readUInt32LE(item + 4) | 2, item + 4);
      Buffer.from(`relative_path${target}`, 'utf16le').copy(bytes, item + 512);
    }),
};

function created(format: string, ...options: string[]): string {
  const path = join(temporaryFolder(), `image.${format}`);
  mustQemuImg('create', '-q', '-f', format, ...options, path, '4M');
  return path;
}

function rebased(name: string, format: string): string {
  const path = newImage();
  mustQemuImg('rebase', '-u', '-b', name, '-F', format, path);
  return path;
}

function edited(path: string, edit: (bytes: Buffer) => void): string {
  const bytes = readFileSync(path);
  edit(bytes);
  writeFileSync(path, bytes);
  return path;
}

/** The extension that tells it becomes one that nobody knows. */
function withoutFormat(path: string): string {
  return edited(path, (bytes) => void bytes.writeUInt32BE(0x12345678, bytes.indexOf(Buffer.from('e2792aca', 'hex'))));
}

/** Every call of the system that has a path. */
function pathCalls(...args: string[]): { status: number | null; calls: string[] } {
  const log = join(temporaryFolder(), 'strace.log');
  const command = [process.execPath, MAIN, 'inspect', ...args];
  const { status } = spawnSync('strace', ['-f', '-qq', '-s', '4096', '-e', 'trace=%file', '-o', log, ...command]);
  // The command itself is started with the image's name.
  const calls = readFileSync(log, 'utf8').split('\n');
  return { status, calls: calls.filter((call) => !call.includes('execve(')) };
}

describe('nothing but the image is looked for, when it names', () => {
  test.each(Object.entries(REFERENCES))('%s', (_, make) => {
    const target = join(temporaryFolder(), 'secret-target');
    const image = make(target);
    writeFileSync(target, 'secret');

    const { status, calls } = pathCalls('--depth=full', '--policy=forensic', image);

    const opened = calls.filter((call) => call.includes(`"${image}"`));
    expect(status).not.toBe(1);
    expect(opened).toHaveLength(1);
    expect(opened[0]).toMatch(/open(at)?\(.*O_RDONLY/);
    expect(calls.filter((call) => call.includes('secret-target'))).toEqual([]);
  });
});

/** All three outputs, with the named file or without it. */
async function outputs(look: (...args: string[]) => Outcome | Promise<Outcome>, image: string): Promise<Outcome[]> {
  const all: Outcome[] = [];
  for (const kind of ['human', 'json', 'sarif'])
    all.push(await look('inspect', '--output', kind, '--depth', 'full', image));
  return all;
}

describe('the output is the same whether the named file exists, when it is', () => {
  test.each(Object.entries(REFERENCES))('%s', async (_, make) => {
    const target = join(temporaryFolder(), 'target');
    const image = make(target);
    const here = (...args: string[]): Promise<Outcome> => corralHere(...args, '--sandbox=wasm');

    copyFileSync(writtenImage(), target);
    const there = await outputs(here, image);
    rmSync(target);
    const gone = await outputs(here, image);

    expect(existsSync(target)).toBe(false);
    expect(gone).toEqual(there);
    expect(there.map(({ status }) => status)).toEqual([2, 2, 2]);
  });

  test('a backing file, in the sandbox, too', async () => {
    const target = join(temporaryFolder(), 'target');
    const image = rebased(target, 'raw');
    const there = (...args: string[]): Outcome => corral(args);

    const gone = await outputs(there, image);
    copyFileSync(writtenImage(), target);

    expect(await outputs(there, image)).toEqual(gone);
  });
});

describe('--allow-reference', () => {
  /** An overlay and what it continues from, in folders of one parent. */
  function overlay(format = 'raw'): { image: string; base: string } {
    const folder = temporaryFolder();
    const base = join(folder, 'bases', 'base.img');
    mkdirSync(dirname(base));
    if (format === 'raw') writeFileSync(base, Buffer.alloc(1048576));
    else copyFileSync(writtenImage(), base);
    const image = newImage(`backing_file=${base},backing_fmt=${format}`, '1M');
    return { image, base };
  }

  test('opens what is allowed, and tells of it', async () => {
    const { image, base } = overlay('qcow2');

    const { status, stdout } = await corralHere('inspect', '--allow-reference', `${dirname(base)}/*`, image);

    expect(status).toBe(0);
    expect(stdout).toContain(`format "qcow2" (allowed)`);
    expect(stdout).toContain(`\nbacking-file ${base}: accept (policy upload, depth tables)\n`);
  });

  test('of what is not allowed nothing is looked for', () => {
    const { image, base } = overlay();

    const { status, calls } = pathCalls('--allow-reference', '/elsewhere/**', image);

    expect(status).toBe(2);
    expect(calls.filter((call) => call.includes('/bases'))).toEqual([]);
    expect(base).toContain('/bases/');
  });

  test('does not follow a link to what is not allowed', async () => {
    const { image, base } = overlay();
    const secret = join(temporaryFolder(), 'secret');
    writeFileSync(secret, Buffer.alloc(1048576));
    rmSync(base);
    symlinkSync(secret, base);

    const { status, stdout } = await corralHere('inspect', '--allow-reference', `${dirname(base)}/*`, image);

    expect(status).toBe(3);
    expect(stdout).toContain('inspect.read-error: A file that is allowed cannot be opened');
  });

  test('with --max-chain 0 opens nothing', async () => {
    const { image } = overlay();

    const { status, stdout } = await corralHere('inspect', '--allow-reference=/**', '--max-chain=0', image);

    expect(status).toBe(2);
    expect(stdout).toContain('ref.depth');
  });

  test('a data file is what it is said to be: raw', async () => {
    const data = join(temporaryFolder(), 'data');
    const image = created('qcow2', '-o', `data_file=${data}`);

    const honest = await corralHere('inspect', '--allow-reference', data, image);
    copyFileSync(writtenImage(), data);
    const other = await corralHere('inspect', '--allow-reference', data, image);

    expect(honest.status).toBe(0);
    expect(other.status).toBe(2);
    expect(other.stdout).toContain('format.declared-mismatch');
  });

  test.each([['-'], ['https://localhost:1/image']])('is no option for %s', async (name) => {
    const { status, stderr } = await corralHere('inspect', '--allow-reference=/**', name);

    expect(status).toBe(1);
    expect(stderr).toMatch(/Only an image in a file can name other files/);
  });
});
