/** Which devices a file lies on, by a kernel of plain files. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { devicesBelow, type KernelView } from '../../host/node/storage-stack.js';
import { temporaryFolder } from '../temporary-folder.js';

interface FakeDevice {
  readonly numbers: string;
  readonly name: string;
  readonly partitionOf?: string;
  readonly slaves?: readonly string[];
  readonly loopFile?: string;
}

/** What `/proc` and `/sys` would say. */
function kernelOf(mounts: readonly string[], devices: readonly FakeDevice[]): KernelView {
  const folder = temporaryFolder();
  const view = { mounts: join(folder, 'mountinfo'), devices: join(folder, 'dev-block') };
  writeFileSync(view.mounts, `${mounts.join('\n')}\n`);
  mkdirSync(view.devices);
  const numbersOf = new Map(devices.map(({ name, numbers }) => [name, numbers]));
  for (const { numbers, name, partitionOf, slaves = [], loopFile } of devices) {
    const place = join(folder, 'block', partitionOf ?? '', name);
    mkdirSync(join(place, 'slaves'), { recursive: true });
    if (partitionOf !== undefined) writeFileSync(join(place, 'partition'), '1\n');
    for (const slave of slaves) {
      mkdirSync(join(place, 'slaves', slave));
      writeFileSync(join(place, 'slaves', slave, 'dev'), `${numbersOf.get(slave)}\n`);
    }
    if (loopFile !== undefined) {
      mkdirSync(join(place, 'loop'));
      writeFileSync(join(place, 'loop/backing_file'), `${loopFile}\n`);
    }
    symlinkSync(place, join(view.devices, numbers));
  }
  return view;
}

const ROOT = '1 0 8:1 / / rw - ext4 /dev/sda1 rw';
const SDA1 = { numbers: '8:1', name: 'sda1', partitionOf: 'sda' };
const UBLK = { numbers: '259:3', name: 'ublkb3' };

test('a file is on the disk of the file system with the longest name before it', async () => {
  const kernel = kernelOf([ROOT, '2 1 259:3 / /no/where rw shared:1 - xfs /dev/ublkb3 rw'], [SDA1, UBLK]);

  expect(await devicesBelow('/no/where/image.qcow2', kernel)).toEqual(new Set(['ublkb3']));
  expect(await devicesBelow('/no/wherever/image.qcow2', kernel)).toEqual(new Set(['sda']));
});

test('of two on the same point the later one counts', async () => {
  const kernel = kernelOf(
    [ROOT, '2 1 259:3 / /no rw - xfs /dev/ublkb3 rw', '3 1 8:1 / /no rw - ext4 /dev/sda1 rw'],
    [SDA1, UBLK],
  );

  expect(await devicesBelow('/no/image', kernel)).toEqual(new Set(['sda']));
});

test('names with spaces are read as the kernel writes them', async () => {
  const kernel = kernelOf([ROOT, '2 1 259:3 / /no\\040such\\134place rw - xfs /dev/ublkb3 rw'], [SDA1, UBLK]);

  expect(await devicesBelow('/no such\\place/image', kernel)).toEqual(new Set(['ublkb3']));
});

test('partitions, mapped devices and loops are followed down', async () => {
  const kernel = kernelOf(
    [ROOT, '2 1 253:0 / /mapped rw - ext4 /dev/mapper/x rw', '3 1 259:4 / /ublk rw - ext4 /dev/ublkb3p1 rw'],
    [
      SDA1,
      UBLK,
      { numbers: '259:4', name: 'ublkb3p1', partitionOf: 'ublkb3' },
      { numbers: '7:0', name: 'loop0', loopFile: '/ublk/file' },
      { numbers: '253:0', name: 'dm-0', slaves: ['loop0'] },
    ],
  );

  expect(await devicesBelow('/mapped/image', kernel)).toEqual(new Set(['dm-0', 'loop0', 'ublkb3']));
});

test('a loop that ends in itself comes to an end', async () => {
  const kernel = kernelOf(
    ['1 0 7:0 / / rw - ext4 /dev/loop0 rw'],
    [{ numbers: '7:0', name: 'loop0', loopFile: '/no/file' }],
  );

  expect(await devicesBelow('/no/image', kernel)).toEqual(new Set(['loop0']));
});

test('a file system without a disk is on nothing, and so is all where nothing is told', async () => {
  const nowhere = { mounts: '/no/such/file', devices: '/no/such/folder' };
  const kernel = kernelOf(['1 0 0:24 / / rw - tmpfs tmpfs rw'], []);

  expect(await devicesBelow('/no/image', kernel)).toEqual(new Set());
  expect(await devicesBelow('/no/image', nowhere)).toEqual(new Set());
});
