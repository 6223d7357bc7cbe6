/** What the file system of a folder can do, tried with a small file that is gone afterwards. */

import { constants, fstatSync, statfsSync, unlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { systemErrorCode } from '../../errors.js';
import { findAddon } from '../../node/addon.js';
import { DirectIo } from '../../node/direct-io.js';
import { punchHole, zeroRange } from '../../node/file-space.js';
import { CommandError, humanSize, reasonOf } from '../output.js';
import { NEEDS_ADDON } from './addon.js';
import type { Finding } from './finding.js';

/** Bytes of the file: holes smaller than a file system's block are none. */
const LENGTH = 1 << 20;

/** File systems by the number that statfs(2) tells. */
const KINDS: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  16914836: 'tmpfs',
  2035054128: 'overlay',
  26985: 'nfs',
  1702057286: 'fuse',
  16914839: '9p',
  801189825: 'zfs',
  4283649346: 'cifs',
};

/** Five findings about the folder. Throws `CommandError` when no file can be made there. */
export async function examineFolder(folder: string): Promise<Finding[]> {
  const path = join(folder, `.corral-doctor-${process.pid}`);
  const { file, direct } = await makeFile(path);
  try {
    return [
      examineSpace(folder),
      await examineDirect(direct),
      await examineHoles(file.fd, () => file.sync()),
      examineZeroing(file.fd),
      await examineLocks(file.fd, path),
    ];
  } finally {
    unlinkSync(path);
    await file.close();
    if (typeof direct !== 'string') await direct.close();
  }
}

type OpenFile = Awaited<ReturnType<typeof open>>;

/** The file, and the same one past the page cache, or why that cannot be. */
async function makeFile(path: string): Promise<{ file: OpenFile; direct: OpenFile | string }> {
  let file: OpenFile | undefined;
  try {
    file = await open(path, 'wx+', 0o600);
    await file.writeFile(Buffer.alloc(LENGTH, 1));
    const direct = await open(path, constants.O_RDWR | constants.O_DIRECT).catch(reasonOf);
    return { file, direct };
  } catch (error) {
    if (file !== undefined) {
      unlinkSync(path);
      await file.close();
    }
    throw new CommandError(`Cannot make a file in '${dirname(path)}': ${reasonOf(error)}`, 1, { cause: error });
  }
}

function examineSpace(folder: string): Finding {
  const { type, bavail, bsize } = statfsSync(folder);
  const kind = KINDS[type] ?? `file system 0x${type.toString(16)}`;
  return { id: 'folder', status: 'ok', about: 'folder', found: `${kind}, ${humanSize(bavail * bsize)} free` };
}

async function examineDirect(direct: OpenFile | string): Promise<Finding> {
  const common = { id: 'direct-io', about: 'direct I/O' };
  const fix = 'cache modes none and directsync need another file system; the others work';
  if (typeof direct === 'string') return { ...common, status: 'limited', found: direct, fix };
  try {
    await new DirectIo(direct.fd).write(0, [new Uint8Array(4096)]);
    return { ...common, status: 'ok', found: 'works' };
  } catch (error) {
    return { ...common, status: 'limited', found: reasonOf(error), fix };
  }
}

async function examineHoles(descriptor: number, sync: () => Promise<void>): Promise<Finding> {
  const common = { id: 'holes', about: 'holes in files' };
  if (findAddon() === undefined) return { ...common, status: 'limited', found: NEEDS_ADDON };
  // What has no place on the disk yet may not be counted.
  await sync();
  const before = fstatSync(descriptor).blocks;
  const punched = punchHole(descriptor, { start: 0, end: LENGTH });
  await sync();
  if (punched && fstatSync(descriptor).blocks < before) return { ...common, status: 'ok', found: 'give space back' };
  const fix = 'discarded and zeroed clusters keep their space: another file system';
  return { ...common, status: 'limited', found: punched ? 'give no space back' : 'not supported', fix };
}

function examineZeroing(descriptor: number): Finding {
  const common = { id: 'zero-range', about: 'zeroed ranges' };
  if (findAddon() === undefined) return { ...common, status: 'limited', found: NEEDS_ADDON };
  if (zeroRange(descriptor, { start: 0, end: LENGTH })) return { ...common, status: 'ok', found: 'cost no writing' };
  return { ...common, status: 'limited', found: 'not supported: zeros are written', fix: 'another file system' };
}

async function examineLocks(descriptor: number, path: string): Promise<Finding> {
  const common = { id: 'image-locks', about: 'image locks' };
  const addon = findAddon();
  if (addon === undefined) return { ...common, status: 'limited', found: NEEDS_ADDON };
  const fix = 'nothing keeps two programs from writing to one image: another file system';
  const other = await open(path, 'r+');
  try {
    addon.shareLock(descriptor, 0, 1);
    if (addon.isLockedByOthers(other.fd, 0, 1)) return { ...common, status: 'ok', found: 'work' };
    return { ...common, status: 'limited', found: 'have no effect', fix };
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return { ...common, status: 'limited', found: reasonOf(error), fix };
  } finally {
    await other.close();
  }
}
