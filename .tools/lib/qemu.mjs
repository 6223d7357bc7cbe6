/**
 * A QEMU of the version that the tests compare with, and whose emulation can be trusted.
 *
 * Debian 12 has QEMU 7.2; its backports have 10.0, but without virtiofsd, which the virtual machine of test/vm needs.
 * So the machine keeps its own packages, and of the newer ones the image tools (`qemu-img`, `qemu-io`, `qemu-nbd`) and the
 * emulator are unpacked into .cache/, from the same Debian mirror that the machine's apt uses. The emulator before 8.1 tears
 * stores of one processor into what another one runs: compiled WebAssembly then jumps to where nothing is.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { cacheFolder, root } from './repository.mjs';
import { capture } from './run.mjs';

const WANTED = 10;
/** The image tools; the emulator with its firmware. */
const PACKAGES = ['qemu-utils', 'qemu-system-x86', 'qemu-system-data', 'seabios'];
const unpacked = join(cacheFolder, 'qemu-utils');
const programs = join(unpacked, 'usr/bin');

/** PATH with the unpacked image tools, if there are any, in front. */
export function pathWithQemu() {
  const path = process.env.PATH ?? '';
  if (path.split(delimiter).includes(programs) || !existsSync(programs)) return path;
  return `${programs}${delimiter}${path}`;
}

/**
 * Makes sure that the `qemu-img` and the emulator on `pathWithQemu()` are new enough, fetching both when they are not.
 *
 * @returns {Promise<string>} its version
 */
export async function ensureQemu() {
  const found = await oldestVersion();
  if (isNewEnough(found)) return found;
  await unpackFromBackports();
  const version = await oldestVersion();
  if (!isNewEnough(version)) throw new Error(`QEMU ${WANTED}.0 or newer is needed, found ${version ?? 'none'}`);
  return version;
}

/**
 * @param {string | undefined} version
 * @returns {version is string}
 */
function isNewEnough(version) {
  return version !== undefined && Number.parseInt(version, 10) >= WANTED;
}

/** The version of the image tools, or of the emulator when that is too old; undefined when one of them does not run. */
async function oldestVersion() {
  const tools = await versionOf('qemu-img');
  const emulator = await versionOf('qemu-system-x86_64');
  return isNewEnough(emulator) ? tools : emulator;
}

/**
 * The version of a program on the path; undefined when there is none that runs.
 *
 * @param {string} program
 */
async function versionOf(program) {
  try {
    const { output } = await capture(program, ['--version'], { env: { ...process.env, PATH: pathWithQemu() } });
    return /version (\d\S*)/.exec(output)?.[1];
  } catch {
    return undefined; // not there
  }
}

async function unpackFromBackports() {
  const state = join(cacheFolder, 'apt');
  for (const folder of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(state, folder), { recursive: true });
  const source = debianSource();
  writeFileSync(
    join(state, 'backports.sources'),
    `Types: deb\nURIs: ${source.uri}\nSuites: ${source.codename}-backports\nComponents: main\nSigned-By: ${source.signedBy}\n`,
  );
  const options = [
    ['Dir::Etc::sourcelist', join(state, 'backports.sources')],
    ['Dir::Etc::sourceparts', '-'],
    ['Dir::State::Lists', join(state, 'lists')],
    ['Dir::Cache', join(state, 'cache')],
    ['Acquire::Languages', 'none'],
    ['APT::Sandbox::User', 'root'],
  ].flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  await must('apt-get', [...options, '-q', 'update']);
  const wanted = PACKAGES.map((name) => `${name}/${source.codename}-backports`);
  await must('apt-get', [...options, '-q', 'download', ...wanted], state);
  rmSync(`${unpacked}.new`, { recursive: true, force: true });
  for (const name of PACKAGES) {
    const archive = readdirSync(state).find((file) => file.startsWith(`${name}_`));
    if (archive === undefined) throw new Error(`apt-get brought no ${name}`);
    await must('dpkg-deb', ['-x', join(state, archive), `${unpacked}.new`]);
  }
  rmSync(unpacked, { recursive: true, force: true });
  renameSync(`${unpacked}.new`, unpacked);
  rmSync(state, { recursive: true });
}

/**
 * Where this machine gets Debian itself from, out of apt's own sources, whichever of their two forms they have.
 *
 * @returns {{ uri: string, signedBy: string, codename: string }}
 */
function debianSource() {
  const codename = /^VERSION_CODENAME=(\S+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  if (codename === undefined) throw new Error('not a Debian release: install QEMU 10.0 or newer');
  for (const text of aptSources()) {
    for (const stanza of text.split(/\n\s*\n/)) {
      const field = (/** @type {string} */ name) => new RegExp(`^${name}:[ \\t]*(.+)$`, 'im').exec(stanza)?.[1]?.trim();
      if (field('Suites')?.split(/\s+/).includes(codename)) {
        return { codename, uri: field('URIs')?.split(/\s+/)[0] ?? '', signedBy: field('Signed-By') ?? KEYRING };
      }
    }
    const line = new RegExp(`^deb\\s+(?:\\[(.*)\\]\\s+)?(\\S+)\\s+${codename}\\s`, 'm').exec(text);
    if (line !== null) {
      return { codename, uri: line[2] ?? '', signedBy: /signed-by=(\S+)/i.exec(line[1] ?? '')?.[1] ?? KEYRING };
    }
  }
  throw new Error(`no source for ${codename} in /etc/apt`);
}

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The text of each of apt's source files. */
function aptSources() {
  const parts = '/etc/apt/sources.list.d';
  const names = existsSync(parts) ? readdirSync(parts).filter((name) => /\.(sources|list)$/.test(name)) : [];
  return ['/etc/apt/sources.list', ...names.sort().map((name) => join(parts, name))]
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, 'utf8').replace(/^\s*#.*\n?/gm, ''));
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {string} [folder] to run it in
 */
async function must(command, args, folder = root) {
  const { status, output } = await capture(command, args, { cwd: folder });
  if (status !== 0) throw new Error(`${command} ${args.at(-1)} failed:\n${output.trimEnd()}`);
}
