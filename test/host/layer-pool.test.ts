/** Overlays that share what lies behind them. */
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createImage, type Image, LayerPool, openImage, pathGate } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';

const SIZE = 1 << 20;

/** A base that begins with this byte. */
async function makeBase(folder: string, byte: number): Promise<string> {
  const path = join(folder, 'base.qcow2');
  await createImage(path, { virtualSize: SIZE });
  await using image = await openImage(path, { write: true });
  await image.write(0, Buffer.alloc(4096, byte));
  return path;
}

async function makeOverlay(folder: string, name: string, base: string, backingFormat = 'qcow2'): Promise<string> {
  const path = join(folder, name);
  await createImage(path, { virtualSize: SIZE, backingFile: base, backingFormat });
  return path;
}

function open(path: string, layers: LayerPool, options: { write?: boolean; chainDepth?: number } = {}): Promise<Image> {
  return openImage(path, { gate: pathGate(), layers, cacheSize: 65536, requestCapacity: 1, ...options });
}

async function firstByte(image: Image): Promise<number> {
  const bytes = new Uint8Array(512);
  await image.read(0, bytes);
  return bytes[0];
}

/** How often this process has the file open. */
function descriptorsOf(path: string): number {
  const target = (name: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`);
    } catch {
      return '';
    }
  };
  return readdirSync('/proc/self/fd').filter((name) => target(name) === path).length;
}

test('64 overlays over one base have its file open once, until the last of them is closed', async () => {
  const folder = temporaryFolder();
  const base = await makeBase(folder, 7);
  const paths = await Promise.all(
    Array.from({ length: 64 }, (_, index) => makeOverlay(folder, `vm${index}.qcow2`, base)),
  );
  const layers = new LayerPool();

  const images = await Promise.all(paths.map((path) => open(path, layers, { write: true })));
  await images[3].write(0, Buffer.alloc(512, 3));
  const bytes = await Promise.all(images.map(firstByte));
  const whileOpen = [layers.size, descriptorsOf(base)];
  await Promise.all(images.slice(1).map((image) => image.close()));
  const last = [await firstByte(images[0]), descriptorsOf(base)];
  await images[0].close();

  expect(bytes).toEqual(Array.from({ length: 64 }, (_, index) => (index === 3 ? 3 : 7)));
  expect(whileOpen).toEqual([1, 1]);
  expect(last).toEqual([7, 1]);
  expect([layers.size, descriptorsOf(base)]).toEqual([0, 0]);
});

test('a layer in the middle, and what lies behind that, are shared as well', async () => {
  const folder = temporaryFolder();
  const base = await makeBase(folder, 5);
  const middle = await makeOverlay(folder, 'middle.qcow2', base);
  const layers = new LayerPool();

  const upper = await open(await makeOverlay(folder, 'upper.qcow2', middle), layers);
  const direct = await open(await makeOverlay(folder, 'direct.qcow2', base), layers);
  const counts = [descriptorsOf(middle), descriptorsOf(base), layers.size];
  await upper.close();

  expect(counts).toEqual([1, 1, 2]);
  expect(await firstByte(direct)).toBe(5);
  await direct.close();
  expect(layers.size).toBe(0);
});

test('a base that is taken for a raw file is another one than the image in it', async () => {
  const folder = temporaryFolder();
  const base = await makeBase(folder, 7);
  const layers = new LayerPool();

  await using asImage = await open(await makeOverlay(folder, 'image.qcow2', base), layers);
  await using asRaw = await open(await makeOverlay(folder, 'raw.qcow2', base, 'raw'), layers);

  expect([await firstByte(asImage), await firstByte(asRaw)]).toEqual([7, 'Q'.charCodeAt(0)]);
});

test('who may have fewer layers than the one who opened them is refused, and the others go on', async () => {
  const folder = temporaryFolder();
  const base = await makeBase(folder, 5);
  const middle = await makeOverlay(folder, 'middle.qcow2', base);
  const [first, second] = [await makeOverlay(folder, 'a.qcow2', middle), await makeOverlay(folder, 'b.qcow2', middle)];
  const layers = new LayerPool();
  await using image = await open(first, layers);

  await expect(open(second, layers, { chainDepth: 1 })).rejects.toMatchObject({
    code: 'ERR_TOO_LARGE',
    message: expect.stringContaining('more than 1 layers'),
  });

  expect(await firstByte(image)).toBe(5);
});

test('a base that cannot be opened is told to each, and tried anew by the next', async () => {
  const folder = temporaryFolder();
  const base = join(folder, 'base.qcow2');
  const paths = [await makeOverlay(folder, 'a.qcow2', base), await makeOverlay(folder, 'b.qcow2', base)];
  const layers = new LayerPool();
  writeFileSync(base, 'no image');

  const endings = await Promise.allSettled(paths.map((path) => open(path, layers)));
  const left = [layers.size, descriptorsOf(base)];
  writeFileSync(base, '');
  await createImage(base, { virtualSize: SIZE, overwrite: true });
  const image = await open(paths[0], layers);
  const byte = await firstByte(image);
  await image.close();

  const reasons = endings.map((ending) => (ending.status === 'rejected' ? String(ending.reason.message) : ''));
  expect(reasons).toEqual(paths.map((path) => expect.stringContaining(`of '${path}'`)));
  expect([...left, byte]).toEqual([0, 0, 0]);
});
