import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { randomFrom } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, mustQemuImg, qemuIo } from './run-corral.js';

const KIB = 1024;
const ROUNDS = 4;

const KINDS = [
  'cluster_size=64k',
  'cluster_size=4k',
  'cluster_size=512',
  'cluster_size=64k,extended_l2=on',
  'cluster_size=16k,extended_l2=on',
  'cluster_size=4k,compat=0.10',
  'cluster_size=2M',
];

/** A chain of images with random content and lengths. */
class Chain {
  readonly folder = temporaryFolder();

  constructor(private readonly random: () => number) {}

  at(name: string): string {
    return join(this.folder, name);
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  /** Makes an image, whose disk has a few written, zeroed and compressed places. */
  make(name: string, backing?: string, format = 'qcow2'): void {
    const kind = KINDS[this.below(KINDS.length)] as string;
    const length = (64 + this.below(2000)) * KIB;
    const behind = backing === undefined ? [] : ['-b', backing, '-F', format];
    mustQemuImg('create', '-q', '-f', 'qcow2', '-o', kind, ...behind, this.at(name), String(length));
    const isOld = kind.includes('0.10');
    const commands = Array.from({ length: 1 + this.below(6) }, () => {
      const offset = this.below(length / 512) * 512;
      const count = Math.min(length - offset, (1 + this.below(300)) * 512);
      const verb =
        this.below(3) === 0 && !isOld
          ? `write -z${this.below(2) === 0 ? ' -u' : ''}`
          : `write -P ${1 + this.below(255)}`;
      return `${verb} ${offset} ${count}`;
    });
    qemuIo(this.at(name), ...commands);
  }

  makeRaw(name: string): void {
    const bytes = Buffer.alloc((64 + this.below(2000)) * KIB);
    for (let place = 0; place < 4; place++)
      bytes.fill(1 + this.below(255), this.below(bytes.length), this.below(bytes.length));
    writeFileSync(this.at(name), bytes);
  }

  /** All bytes of a disk. */
  bytes(name: string, format = 'qcow2'): Buffer {
    mustQemuImg('convert', '-f', format, '-O', 'raw', this.at(name), this.at('bytes'));
    return readFileSync(this.at('bytes'));
  }
}

describe.each(Array.from({ length: ROUNDS }, (_, index) => 1000 + index))('with random images (seed %i)', (seed) => {
  test.each([
    ['', 'qcow2'],
    ['-c', 'qcow2'],
    ['', 'raw'],
  ])('rebase %s over %s leaves the disk as it is', async (option, format) => {
    const chain = new Chain(randomFrom(seed));
    chain.make('base');
    chain.make('mid', 'base');
    chain.make('top', 'mid');
    if (format === 'raw') chain.makeRaw('other');
    else chain.make('other');
    const before = chain.bytes('top');

    const flags = option === '' ? [] : [option];
    const { status, stderr } = await corralHere('rebase', ...flags, '-b', 'other', '-F', format, chain.at('top'));

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    mustQemuImg('check', chain.at('top'));
    expect(chain.bytes('top').equals(before)).toBe(true);
    expect(JSON.parse(mustQemuImg('info', '--output=json', chain.at('top')))['backing-filename']).toBe('other');
  });

  test('rebase onto nothing leaves the disk as it is', async () => {
    const chain = new Chain(randomFrom(seed));
    chain.make('base');
    chain.make('top', 'base');
    const before = chain.bytes('top');

    const { status } = await corralHere('rebase', '-b', '', chain.at('top'));

    expect(status).toBe(0);
    mustQemuImg('check', chain.at('top'));
    expect(chain.bytes('top').equals(before)).toBe(true);
  });

  test.each([
    ['the backing file', [], 'mid', 'qcow2'],
    ['the backing file, and drops nothing', ['-d'], 'mid', 'qcow2'],
    ['the layer below', ['-b', 'FOLDER/base'], 'base', 'qcow2'],
    ['a raw layer below', ['-b', 'FOLDER/base'], 'base', 'raw'],
  ])('commit brings the disk into %s', async (_, options, target, format) => {
    const chain = new Chain(randomFrom(seed));
    if (format === 'raw') chain.makeRaw('base');
    else chain.make('base');
    chain.make('mid', 'base', format);
    chain.make('top', 'mid');
    const before = chain.bytes('top');
    for (const name of ['base', 'mid', 'top']) copyFileSync(chain.at(name), chain.at(`${name}.before`));

    const args = options.map((option) => option.replace('FOLDER', chain.folder));
    const { status, stderr } = await corralHere('commit', '-q', ...args, chain.at('top'));

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const name of ['mid', 'top', ...(format === 'raw' ? [] : ['base'])]) mustQemuImg('check', chain.at(name));
    const written = chain.bytes(target, target === 'base' ? format : 'qcow2');
    expect(written.subarray(0, before.length).equals(before)).toBe(true);
    if (target === 'mid') expect(chain.bytes('top').equals(before)).toBe(true);
  });
});
