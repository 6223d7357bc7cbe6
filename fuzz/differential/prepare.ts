/** The images that a sequence begins with: two that are alike, and what lies below them. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createImage } from '../../host/node/index.js';
import { Random } from '../simulator/random.js';
import type { Engine, ImagePlan, Plan } from './plan.js';
import { performByQemu, readByQemu, runTool } from './qemu.js';

/** Makes the image at `path`; the guest bytes that it has then. */
export async function prepareImage(plan: Plan, folder: string, path: string, by: Engine): Promise<Uint8Array> {
  const { image, seed } = plan;
  const { size } = image;
  if (image.compressed) {
    const raw = compressible(new Random(seed), size);
    await writeFile(`${path}.source`, raw);
    const options = ['-c', '-f', 'raw', '-O', 'qcow2', '-o', creationOptions(image, path), `${path}.source`, path];
    await runTool('qemu-img', ['convert', ...options]);
    return raw;
  }
  if (image.backing !== undefined) {
    const below = await prepareBacking(plan, join(folder, 'below'));
    const args = ['-F', image.backing.format, '-b', join(folder, 'below'), '-o', creationOptions(image, path)];
    await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...args, path, String(size)]);
    const bytes = new Uint8Array(size);
    bytes.set(below.subarray(0, size));
    return bytes;
  }
  if (by === 'qemu') {
    await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', creationOptions(image, path), path, String(size)]);
  } else {
    const { clusterSize, compat, refcountBits, lazyRefcounts } = image;
    await createImage(path, { virtualSize: size, clusterSize, compat, refcountBits, lazyRefcounts });
  }
  return new Uint8Array(size);
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
  if (extendedL2) options.push('extended_l2=on');
  if (dataFile !== 'none') options.push(`data_file=${path}.data`);
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
