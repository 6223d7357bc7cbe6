/**
 * Which block devices a file lies on, through file systems, partitions, loop and mapped devices.
 *
 * A server whose image lies on its own device waits for itself sooner or later: at the latest when it dies with requests
 * under way, and nothing ends it then. Where the kernel tells nothing of a file system's devices (a network's, an
 * overlay's), nothing is found.
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { CorralError } from '../errors.js';
import type { Addon } from './addon.js';
import { blockNode } from './ublk-errors.js';

/** Layers that are followed. */
const DEEPEST = 32;

/** Where the kernel tells; elsewhere in tests. */
export interface KernelView {
  readonly mounts: string;
  readonly devices: string;
}

const KERNEL: KernelView = { mounts: '/proc/self/mountinfo', devices: '/sys/dev/block' };

/** Names of the block devices below a file or block device, as in `/sys/block`, without those of partitions. */
export async function devicesBelow(path: string, kernel: KernelView = KERNEL): Promise<Set<string>> {
  const found = new Set<string>();
  await addFile(path, kernel, found, 0);
  return found;
}

/**
 * Refuses an image on a device that this process serves, or that waits for a server, above all the one that it is of.
 *
 * @param own number of the image's own device, when it has one already
 * @throws CorralError ERR_INVALID_ARGUMENT
 */
export async function refuseOwnDevices(addon: Addon, path: string, own?: number): Promise<void> {
  for (const name of await devicesBelow(path)) {
    const id = Number(/^ublkb(\d+)$/.exec(name)?.[1] ?? -1);
    if (id < 0) continue;
    const info = await addon.ublk.getInfo(id).catch(() => undefined);
    if (id === own || info?.serverPid === process.pid || (info !== undefined && info.state !== LIVE)) {
      throw new CorralError('ERR_INVALID_ARGUMENT', {
        path,
        device: id,
        reason: `It lies on ${blockNode(id)}, which this process would have to serve: it would wait for itself`,
      });
    }
  }
}

/** Value of UblkInfo.state. */
const LIVE = 1;

async function addFile(path: string, kernel: KernelView, found: Set<string>, depth: number): Promise<void> {
  if (depth > DEEPEST) return;
  const absolute = resolve(path);
  // By its name first: nothing of a file system that may be stuck is asked.
  await addMount(absolute, kernel, found, depth);
  if ([...found].some((name) => name.startsWith('ublkb'))) return;
  const real = await realpath(absolute).catch(() => undefined);
  if (real === undefined) return;
  const status = await stat(real).catch(() => undefined);
  if (status?.isBlockDevice()) await addDevice(numbersOf(status.rdev), kernel, found, depth + 1);
  else if (real !== absolute) await addMount(real, kernel, found, depth);
}

/** The device of the file system that an absolute path is in. */
async function addMount(path: string, kernel: KernelView, found: Set<string>, depth: number): Promise<void> {
  let best: { point: string; numbers: string; source: string } | undefined;
  for (const line of (await readFile(kernel.mounts, 'utf8').catch(() => '')).split('\n')) {
    // "36 35 98:0 /root /mount/point options [optional...] - type source options" (proc_pid_mountinfo(5))
    const fields = line.split(' ');
    const [numbers, point] = [fields[2], fields[4]?.replace(/\\(\d{3})/g, unescapeOctal)];
    const source = fields[fields.indexOf('-') + 2] ?? '';
    if (numbers === undefined || point === undefined || !isBelow(path, point)) continue;
    // A later mount on the same point hides the earlier one.
    if (best === undefined || point.length >= best.point.length) best = { point, numbers, source };
  }
  if (best === undefined) return;
  if (!best.numbers.startsWith('0:')) return addDevice(best.numbers, kernel, found, depth + 1);
  // File systems of many devices have no number of their own, but a source.
  const status = best.source.startsWith('/dev/') ? await stat(best.source).catch(() => undefined) : undefined;
  if (status?.isBlockDevice()) await addDevice(numbersOf(status.rdev), kernel, found, depth + 1);
}

async function addDevice(numbers: string, kernel: KernelView, found: Set<string>, depth: number): Promise<void> {
  if (depth > DEEPEST) return;
  let folder = await realpath(`${kernel.devices}/${numbers}`).catch(() => undefined);
  if (folder === undefined) return;
  if ((await readText(`${folder}/partition`)) !== undefined) folder = dirname(folder);
  const name = basename(folder);
  if (found.has(name)) return;
  found.add(name);
  for (const slave of await readdir(`${folder}/slaves`).catch(() => [])) {
    const below = await readText(`${folder}/slaves/${slave}/dev`);
    if (below !== undefined) await addDevice(below, kernel, found, depth + 1);
  }
  const backing = await readText(`${folder}/loop/backing_file`);
  if (backing !== undefined) await addFile(backing, kernel, found, depth + 1);
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`);
}

function unescapeOctal(_match: string, digits: string): string {
  return String.fromCharCode(Number.parseInt(digits, 8));
}

/** As glibc's gnu_dev_major and gnu_dev_minor. */
function numbersOf(device: number): string {
  const value = BigInt(device);
  const major = ((value >> 8n) & 0xfffn) | ((value >> 32n) & ~0xfffn);
  const minor = (value & 0xffn) | ((value >> 12n) & ~0xffn & 0xffffffffn);
  return `${major}:${minor}`;
}

async function readText(path: string): Promise<string | undefined> {
  return (await readFile(path, 'utf8').catch(() => undefined))?.trim();
}
