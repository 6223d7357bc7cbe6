/** The images that a sequence begins with: two that are alike, and what lies below them. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createImage, NodeFile, openImage } from '../../host/node/index.js';
import { Random } from '../simulator/random.js';
import { dataPath, type Engine, type ImagePlan, type Plan } from './plan.js';
import { performByQemu, readByQemu, runTool } from './qemu.js';

/** Makes the image at `path`; the guest bytes that it has then. */
export async function prepareImage(plan: Plan, folder: string, path: string, by: Engine): Promise<Uint8Array> {
  const { image, seed } = plan;
  const { size } = image;
  if (image.compressed) {
    const raw = compressible(new Random(seed), size);
    if (by === 'qemu') await convertByQemu(image, path, raw);
    else await compressByCorral(image, path, raw);
    return raw;
  }
  const bytes = new Uint8Array(size);
  if (image.backing !== undefined) bytes.set((await prepareBacking(plan, join(folder, 'below'))).subarray(0, size));
  if (by === 'qemu') await createByQemu(image, path);
  else await createByCorral(image, path);
  return bytes;
}

async function createByQemu(image: ImagePlan, path: string): Promise<void> {
  const behind = image.backing === undefined ? [] : ['-F', image.backing.format, '-b', 'below'];
  const args = [...behind, '-o', creationOptions(image, path), path, String(image.size)];
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...args]);
}

async function createByCorral(image: ImagePlan, path: string): Promise<void> {
  const { clusterSize, compat, refcountBits, lazyRefcounts, extendedL2, compressionType, backing } = image;
  const { preallocation, dataFile } = image;
  const data = dataFile === 'none' ? undefined : await NodeFile.open(dataPath(path), { create: true });
  try {
    await data?.truncate(image.size);
    const outside = data === undefined ? {} : { data, dataFile: dataPath(path), dataFileRaw: dataFile === 'raw' };
    const behind = backing === undefined ? {} : { backingFile: 'below', backingFormat: backing.format };
    const format = { clusterSize, compat, refcountBits, lazyRefcounts, extendedL2, compressionType, preallocation };
    await createImage(path, { virtualSize: image.size, ...format, ...outside, ...behind });
  } finally {
    await data?.close();
  }
}

async function convertByQemu(image: ImagePlan, path: string, raw: Uint8Array): Promise<void> {
  await writeFile(`${path}.source`, raw);
  const options = ['-c', '-f', 'raw', '-O', 'qcow2', '-o', creationOptions(image, path), `${path}.source`, path];
  await runTool('qemu-img', ['convert', ...options]);
}

/** Clusters of zeros are left out, as QEMU does. */
async function compressByCorral(image: ImagePlan, path: string, raw: Uint8Array): Promise<void> {
  await createByCorral(image, path);
  await using opened = await openImage(path, { write: true });
  const { clusterSize } = image;
  for (let offset = 0; offset < raw.length; offset += clusterSize) {
    const cluster = raw.subarray(offset, offset + clusterSize);
    if (cluster.some((byte) => byte !== 0)) await opened.writeCompressed(offset, cluster);
  }
  await opened.close();
}

async function prepareBacking({ image, seed }: Plan, path: string): Promise<Uint8Array> {
  const { format, size, clusterSize } = image.backing as NonNullable<ImagePlan['backing']>;
  if (format === 'raw') {
    const bytes = compressible(new Random(seed + 1), size);
    await writeFile(path, bytes);
    return bytes;
  }
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `cluster_size=${clusterSize}`, path, String(size)]);
  const half = Math.floor(size / 2);
  await performByQemu(path, [
    { kind: 'write', offset: 0, length: half, value: 0xb1 },
    { kind: 'write', offset: size - Math.min(size, 700), length: Math.min(size, 700), value: 0xb2 },
    { kind: 'zero', offset: Math.floor(half / 2), length: Math.ceil(half / 8) },
  ]);
  return readByQemu(path);
}

function creationOptions(image: ImagePlan, path: string): string {
  const { clusterSize, compat, refcountBits, lazyRefcounts, extendedL2, compressionType, dataFile } = image;
  const options = [`cluster_size=${clusterSize}`, `compat=${compat}`];
  if (compat === '1.1') options.push(`refcount_bits=${refcountBits}`, `compression_type=${compressionType}`);
  if (lazyRefcounts) options.push('lazy_refcounts=on');
  if (image.preallocation !== 'off') options.push(`preallocation=${image.preallocation}`);
  if (extendedL2) options.push('extended_l2=on');
  if (dataFile !== 'none') options.push(`data_file=${dataPath(path)}`);
  if (dataFile === 'raw') options.push('data_file_raw=on');
  return options.join(',');
}

/** Bytes of which some stretches compress well, some not at all, and some are zeros. */
function compressible(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let offset = 0; offset < length; ) {
    const end = Math.min(length, offset + random.between(100, 50_000));
    const kind = random.below(3);
    if (kind === 0) bytes.fill(random.between(1, 255), offset, end);
    else if (kind === 1) for (let index = offset; index < end; index++) bytes[index] = random.next();
    offset = end;
  }
  return bytes;
}
