/**
 * Debian kernels that have `ublk_drv`, fetched once and unpacked into a cache folder.
 *
 * The packages come from wherever this machine's own apt gets Debian from; only the suite differs (the kernels
 * are in the backports). All of apt's state is private to the cache folder, so the machine's own package lists
 * and sources stay as they are.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The kernel series that the tests know: the oldest one that Corral serves, and a new one. */
export type KernelSeries = '6.12' | '7.2';

/** Every series, in the order in which the tests go through them. */
export const KERNEL_SERIES: readonly KernelSeries[] = ['6.12', '7.2'];

/** An unpacked kernel. */
export interface Kernel {
  readonly series: KernelSeries;
  /** What `uname -r` says in the guest. */
  readonly release: string;
  /** The compressed kernel itself. */
  readonly image: string;
  /** The folder whose name is `release`, with `modules.dep` in it. */
  readonly modules: string;
}

/** A kernel cannot be had: the message is one line that says what to do. */
export class KernelError extends Error {}

const SUITES: readonly string[] = ['bookworm-backports', 'trixie-backports'];
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The root of the checkout that this file is in. */
export const repository: string = resolve(fileURLToPath(new URL('../..', import.meta.url)));

/** Where kernels are kept: `CORRAL_VM_CACHE`, else a folder inside `node_modules`. */
export function cacheFolder(): string {
  return resolve(process.env.CORRAL_VM_CACHE ?? join(repository, 'node_modules/.cache/corral-vm'));
}

/**
 * The kernel of a series, from the cache, else fetched into it.
 *
 * A kernel is unpacked into a folder of this process and then renamed into place, so what the cache holds under
 * a series' name is always whole, and two processes may do this at once.
 *
 * @throws KernelError when the packages cannot be had.
 */
export async function ensureKernel(series: KernelSeries, cache: string = cacheFolder()): Promise<Kernel> {
  const folder = join(cache, series);
  if (!existsSync(join(folder, 'release'))) {
    await mkdir(cache, { recursive: true });
    await removeAbandoned(cache);
    const partial = join(cache, `partial-${process.pid}-${series}`);
    try {
      await unpackKernel(series, partial);
      await moveIntoPlace(join(partial, 'kernel'), folder);
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
  }
  const release = (await readFile(join(folder, 'release'), 'utf8')).trim();
  return { series, release, image: join(folder, 'vmlinuz'), modules: join(folder, 'lib/modules', release) };
}

/** Removes what processes that are no more had begun. */
async function removeAbandoned(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    const owner = /^partial-(\d+)-/.exec(name)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) {
      await rm(join(cache, name), { recursive: true, force: true });
    }
  }
}

async function moveIntoPlace(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    // Another process was quicker: its kernel is as good as ours.
    if (!existsSync(join(to, 'release'))) throw error;
  }
}

async function unpackKernel(series: KernelSeries, partial: string): Promise<void> {
  await rm(partial, { recursive: true, force: true });
  const apt = await privateApt(partial);
  await apt('apt-get', 'update').catch((error: unknown) => fail(series, error));
  const packages = await choosePackages(series, apt);
  const downloads = join(partial, 'packages');
  await mkdir(downloads, { recursive: true });
  await apt('apt-get', 'download', ...packages).catch((error: unknown) => fail(series, error));

  const tree = join(partial, 'tree');
  for (const name of await readdir(downloads)) {
    await run('dpkg-deb', ['--extract', join(downloads, name), tree]);
  }
  await assemble(series, tree, join(partial, 'kernel'));
}

type Apt = (command: string, ...args: string[]) => Promise<string>;

/** A way to call apt with lists, cache and sources below `partial`, and downloads in `partial/packages`. */
async function privateApt(partial: string): Promise<Apt> {
  const state = join(partial, 'apt');
  const downloads = join(partial, 'packages');
  await mkdir(join(state, 'lists/partial'), { recursive: true });
  await mkdir(join(state, 'cache/archives/partial'), { recursive: true });
  await mkdir(downloads, { recursive: true });
  const sources = join(state, 'debian.sources');
  const signedBy = existsSync(KEYRING) ? `Signed-By: ${KEYRING}\n` : '';
  await writeFile(
    sources,
    `Types: deb\nURIs: ${await debianSource()}\nSuites: ${SUITES.join(' ')}\nComponents: main\n${signedBy}`,
  );
  const options = [
    `Dir::Etc::sourcelist=${sources}`,
    'Dir::Etc::sourceparts=-',
    `Dir::State::Lists=${join(state, 'lists')}`,
    `Dir::Cache=${join(state, 'cache')}`,
    'Acquire::Languages=none',
    'APT::Architecture=amd64',
    // The download folder belongs to us, and apt's own user could not write into it.
    `APT::Sandbox::User=${process.getuid?.() === 0 ? 'root' : ''}`,
  ].flatMap((option) => ['-o', option]);
  return async (command, ...args) => {
    const result = await run(command, ['-q', ...options, ...args], { cwd: downloads, maxBuffer: 1 << 26 });
    return result.stdout;
  };
}

/** Where this machine's apt gets Debian itself (not its security updates) from. */
async function debianSource(): Promise<string> {
  const { stdout } = await run('apt-get', [
    'indextargets',
    '--format',
    '$(REPO_URI) $(RELEASE) $(COMPONENT)',
    'Created-By: Packages',
  ]).catch(() => ({ stdout: '' }));
  const lines = stdout.split('\n').map((line) => line.split(' '));
  const main = lines.find(([, release, component]) => component === 'main' && release && !release.includes('-'));
  if (main?.[0] === undefined) {
    throw new KernelError('no kernel for the virtual machine: this machine has no apt source for Debian');
  }
  return main[0];
}

/** The newest image of the series, and the packages that newer Debian versions split off it. */
async function choosePackages(series: KernelSeries, apt: Apt): Promise<string[]> {
  const names = (await apt('apt-cache', 'pkgnames', `linux-`)).split('\n');
  const escaped = series.replace('.', '\\.');
  const pattern = new RegExp(`^linux-image-(${escaped}\\.[0-9.]+\\+deb\\d+-cloud-amd64)$`);
  const releases = names.flatMap((name) => pattern.exec(name)?.[1] ?? []);
  releases.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const release = releases.at(-1);
  if (release === undefined) {
    throw new KernelError(`no kernel for the virtual machine: Debian's backports have no cloud kernel ${series}`);
  }
  const wanted = ['image', 'binary', 'modules'].map((part) => `linux-${part}-${release}`);
  return wanted.filter((name) => names.includes(name));
}

/** Makes the folder that the cache keeps out of the packages' unpacked tree. */
async function assemble(series: KernelSeries, tree: string, kernel: string): Promise<void> {
  const modules = [join(tree, 'lib/modules'), join(tree, 'usr/lib/modules')].find((path) => existsSync(path));
  const release = modules === undefined ? undefined : (await readdir(modules))[0];
  const files = await readdir(tree, { recursive: true });
  const image = files.find((path) => basename(path).startsWith('vmlinuz'));
  if (modules === undefined || release === undefined || image === undefined) {
    throw new KernelError(`no kernel for the virtual machine: the packages of ${series} hold no kernel and modules`);
  }
  await mkdir(join(kernel, 'lib'), { recursive: true });
  await copyFile(join(tree, image), join(kernel, 'vmlinuz'));
  await rename(modules, join(kernel, 'lib/modules'));
  await run('depmod', ['-b', kernel, release]);
  // Last: this file says that the folder is whole.
  await writeFile(join(kernel, 'release'), `${release}\n`);
}

function fail(series: KernelSeries, error: unknown): never {
  const text = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
  const line = text.split('\n').find((each) => /^(E|W|Err)/.test(each)) ?? text.split('\n')[0];
  throw new KernelError(`no kernel ${series} for the virtual machine: ${line}`);
}
