/** What becomes of discarded clusters: freed, or kept as reserved zeros; and when the file gets its space back. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Image, loadCore, type MapExtent, MemoryFile, type OpenOptions, openImage } from '../../host/node/index.js';
import { type Counts, io, makeImage, qemuCheck, snapshot } from './check-fixture.js';

const CLUSTER = 65536;
const MIB = 1 << 20;
const CLEAN = { corruptions: 0, leaks: 0, checkErrors: 0 };

/** Notes what is discarded in the file. */
class WatchedFile extends MemoryFile {
  readonly discarded: [offset: number, length: number][] = [];
  override async discard(offset: number, length: number): Promise<void> {
    this.discarded.push([offset, length]);
    await super.discard(offset, length);
  }
}

async function mapOf(path: string): Promise<MapExtent[]> {
  await using image = await openImage(path);
  const extents: MapExtent[] = [];
  for await (const extent of image.map()) extents.push(extent);
  return extents;
}

function qemuDiscard(path: string, commands: string[]): void {
  const options = `driver=qcow2,discard-no-unref=on,discard=unmap,file.filename=${path}`;
  const given = commands.flatMap((command) => ['-c', command]);
  execFileSync('qemu-io', ['--image-opts', ...given, options], { stdio: 'pipe' });
}

const SHAPES = [
  { title: 'clusters of 64 KiB', clusterSize: CLUSTER, more: [] },
  { title: 'clusters of 4 KiB', clusterSize: 4096, more: [] },
  { title: 'subclusters', clusterSize: CLUSTER, more: ['extended_l2=on'] },
];

describe('with discardNoUnref', () => {
  test.each(SHAPES)('discarded clusters stay where they are, as in QEMU: $title', async ({ clusterSize, more }) => {
    const commands = ['write -P 7 0 1M', 'write -z 512k 64k', 'write -c -P 5 1M 64k'];
    const [ours, theirs] = [0, 1].map(() => makeImage({ clusterSize, more, size: 4 * MIB }, commands)) as [
      string,
      string,
    ];

    const image = await openImage(ours, { write: true, discardNoUnref: true });
    await image.discard(100_000, 300_000);
    await image.writeZeroes(600 * 1024, 200 * 1024, { unmap: true });
    await image.discard(MIB, 2 * MIB);
    await image.close();

    qemuDiscard(theirs, ['discard 100000 300000', 'write -z -u 600k 200k', 'discard 1M 2M']);
    expect(await mapOf(ours)).toEqual(await mapOf(theirs));
    const { allocatedClusters } = qemuCheck(theirs) as Counts;
    expect(qemuCheck(ours)).toMatchObject({ ...CLEAN, allocatedClusters });
    io(ours, ['read -P 0 128k 192k', 'write -P 9 128k 1k', 'read -P 9 128k 1k', 'read -P 0 129k 191k']);
    expect(qemuCheck(ours)).toMatchObject(CLEAN);
  });

  test('their space is given back, and a write finds zeros around itself', async () => {
    const path = makeImage({ clusterSize: CLUSTER, size: 4 * MIB }, ['write -P 7 0 1M']);
    const file = new WatchedFile(readFileSync(path));
    const image = await Image.open(file, { core: loadCore(), write: true, discardNoUnref: true });
    const [before] = await collect(image);

    await image.discard(2 * CLUSTER, 3 * CLUSTER);
    await image.write(3 * CLUSTER + 100, new Uint8Array(50).fill(9));

    expect(file.discarded).toEqual([[(before?.hostOffset ?? 0) + 2 * CLUSTER, 3 * CLUSTER]]);
    const found = new Uint8Array(3 * CLUSTER);
    await image.read(2 * CLUSTER, found);
    expect(found.findIndex((byte) => byte !== 0)).toBe(CLUSTER + 100);
    expect(found.filter((byte) => byte === 9)).toHaveLength(50);
    expect(image.statistics().allocatedClusters).toBe(0);
    await image.close();
  });

  test('the clusters of a snapshot are neither kept nor touched', async () => {
    const path = makeImage({ clusterSize: CLUSTER, size: 4 * MIB }, ['write -P 7 0 1M']);
    snapshot(path, 'before');
    const file = new WatchedFile(readFileSync(path));
    const image = await Image.open(file, { core: loadCore(), write: true, discardNoUnref: true });

    await image.discard(0, MIB);
    await image.flush();

    expect(file.discarded).toEqual([]);
    expect((await collect(image))[0]).toMatchObject({ kind: 'zero', hostOffset: undefined });
    await image.close();
    const kept = await Image.open(file, { core: loadCore(), snapshot: { name: 'before' } });
    const found = new Uint8Array(MIB);
    await kept.read(0, found);
    expect(found.every((byte) => byte === 7)).toBe(true);
  });

  test('an image of version 2 is refused, as by QEMU', async () => {
    const path = makeImage({ clusterSize: CLUSTER, compat: '0.10' });

    const opening = openImage(path, { write: true, discardNoUnref: true });

    await expect(opening).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringContaining('discard-no-unref is only supported since qcow2 version 3'),
    });
    expect(() => qemuDiscard(path, ['discard 0 64k'])).toThrow(/discard-no-unref is only supported since/);
  });
});

describe('clusters that become free are discarded in the file', () => {
  const ways: [title: string, off: OpenOptions['passDiscard'], change: (image: Image) => Promise<void>][] = [
    ['by the guest', { request: false }, (image) => image.discard(0, MIB)],
    ['with a snapshot', { snapshot: false }, (image) => image.snapshots.delete({ name: 'before' })],
    ['as they were copied', { other: false }, (image) => image.write(2 * MIB, new Uint8Array(CLUSTER).fill(1))],
  ];

  test.each(ways)('%s, unless the host does not want it', async (_, off, change) => {
    const commands = ['write -P 7 0 1M', 'write -P 3 1M 1M', 'write -c -P 5 2M 64k'];
    const path = makeImage({ clusterSize: CLUSTER, size: 4 * MIB }, commands);
    snapshot(path, 'before');
    io(path, ['discard 0 2M', 'write -P 7 0 1M', 'discard 2M 64k', 'write -c -P 6 2M 64k']);

    const discards: number[] = [];
    for (const passDiscard of [undefined, off]) {
      const file = new WatchedFile(readFileSync(path));
      const image = await Image.open(file, { core: loadCore(), write: true, passDiscard });
      await change(image);
      await image.flush();
      await image.close();
      discards.push(file.discarded.length);
      const { corruptions, leaks } = await checked(file);
      expect({ corruptions, leaks }).toEqual({ corruptions: 0, leaks: 0 });
    }

    expect(discards[0]).toBeGreaterThan(0);
    expect(discards[1]).toBe(0);
  });
});

async function collect(image: Image): Promise<MapExtent[]> {
  const extents: MapExtent[] = [];
  for await (const extent of image.map()) extents.push(extent);
  return extents;
}

async function checked(file: MemoryFile) {
  const image = await Image.open(file, { core: loadCore(), tablesOnly: true, checkSize: 1 << 20 });
  return image.check();
}
