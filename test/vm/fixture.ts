/**
 * Real input for the scenarios: files of this machine's own /usr, and images with them that QEMU made.
 *
 * Real trees have what patterns do not: thousands of small files, deep folders, a few large ones, and contents that
 * no two clusters share.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const SOURCES = ['/usr/share', '/usr/lib'];
const LARGEST_FILE = 24 * 2 ** 20;

/** How much a fixture has: so many files of any size, and large ones up to so many bytes. */
export interface FixtureSize {
  readonly fileCount: number;
  readonly byteCount: number;
}

/** Files in the folder that the host and the guest share. */
export interface Fixture {
  /** The files as one archive, since thousands of small ones cross the machines' border slowly. */
  readonly archive: string;
  /** What sha256sum says of them, by their names below the root of the archive. */
  readonly checksums: string;
  /** A qcow2 image of qemu-img's with an ext4 of them. */
  readonly image: string;
  readonly fileCount: number;
  readonly byteCount: number;
}

/** Makes the fixture in a folder, which must be empty. */
export async function makeFixture(folder: string, size: FixtureSize): Promise<Fixture> {
  const tree = join(folder, 'tree');
  const { paths, byteCount } = await chooseFiles(size);
  const list = join(folder, 'files');
  await writeFile(list, paths.map((path) => `${path.slice(1)}\n`).join(''));

  const archive = join(folder, 'files.tar');
  const checksums = join(folder, 'files.sha256');
  await run('tar', ['-C', '/', '--no-recursion', '-cf', archive, '-T', list]);
  await mkdir(tree);
  await run('tar', ['-C', tree, '-xf', archive]);
  await writeFile(checksums, await checksumTree(tree));

  const raw = join(folder, 'ext4.raw');
  const image = join(folder, 'ext4.qcow2');
  await run('mke2fs', ['-q', '-t', 'ext4', '-d', tree, raw, '2G']);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  await Promise.all([raw, tree, list].map((path) => rm(path, { recursive: true })));
  return { archive, checksums, image, fileCount: paths.length, byteCount };
}

/** What `sha256sum` prints for every regular file of a tree, by relative names in the order of their bytes. */
export async function checksumTree(tree: string): Promise<string> {
  const script = 'find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 -r -n 500 sha256sum';
  const { stdout } = await run('bash', ['-o', 'pipefail', '-c', script], { cwd: tree, maxBuffer: 1 << 28 });
  return stdout;
}

/** A mixture that is the same on every run: files by the hash of their names, then large ones up to the size. */
async function chooseFiles(size: FixtureSize): Promise<{ paths: string[]; byteCount: number }> {
  const files = (await Promise.all(SOURCES.map(listFiles))).flat();
  const mixed = files
    .map((file) => ({ ...file, key: createHash('md5').update(file.path).digest('hex') }))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  const chosen = new Map<string, number>();
  let byteCount = 0;
  const take = (file: { path: string; size: number }): void => {
    if (chosen.has(file.path) || byteCount + file.size > size.byteCount) return;
    chosen.set(file.path, file.size);
    byteCount += file.size;
  };
  mixed.slice(0, size.fileCount).forEach(take);
  mixed.filter((file) => file.size > 2 ** 20).forEach(take);
  return { paths: [...chosen.keys()].sort(), byteCount };
}

async function listFiles(folder: string): Promise<{ path: string; size: number }[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = await Promise.all(
    entries
      // One name a line in the lists, so a name with a line's end in it stays out; backslashes sha256sum escapes.
      .filter((entry) => entry.isFile() && !/[\n\\]/.test(join(entry.parentPath, entry.name)))
      .map(async (entry) => {
        const path = join(entry.parentPath, entry.name);
        return { path, size: (await lstat(path)).size };
      }),
  );
  return files.filter((file) => file.size <= LARGEST_FILE);
}

/**
 * Judges an image with QEMU and e2fsprogs alone: the image is consistent, so is the ext4 in it, and the files in that
 * are those of the list.
 *
 * @param checksums a file of {@link checksumTree}'s format.
 * @returns what is wrong, a line each.
 */
export async function judgeExt4Image(image: string, checksums: string): Promise<string[]> {
  const raw = `${image}.raw`;
  const tree = `${image}.tree`;
  try {
    const wrong = await checkImage(image);
    await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, raw]);
    await run('e2fsck', ['-fn', raw]).catch((error: Error) => wrong.push(`e2fsck: ${error.message}`));
    await mkdir(tree);
    // Without root or a loop device: debugfs copies the tree out of the file system by itself.
    await run('debugfs', ['-R', `rdump / ${tree}`, raw], { maxBuffer: 1 << 28 });
    const expected = new Set((await readFile(checksums, 'utf8')).split('\n'));
    const found = new Set((await checksumTree(tree)).split('\n'));
    wrong.push(...[...expected].filter((line) => !found.has(line)).map((line) => `missing: ${line}`));
    wrong.push(...[...found].filter((line) => !expected.has(line)).map((line) => `unexpected: ${line}`));
    return wrong;
  } finally {
    await rm(raw, { force: true });
    await rm(tree, { recursive: true, force: true });
  }
}

/** What qemu-img finds wrong in an image: corruptions and leaks, a line each. */
export async function checkImage(image: string): Promise<string[]> {
  return run('qemu-img', ['check', '-f', 'qcow2', image]).then(
    () => [],
    (error: { stdout?: string; message: string }) => [`qemu-img check: ${error.message}${error.stdout ?? ''}`],
  );
}
