/** The folder in which a machine's servers keep what others need to find them, and its files. */
import { constants } from 'node:fs';
import { lstat, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CorralError, systemErrorCode } from '../errors.js';

const LONGEST_FILE = 65536;

/** `CORRAL_RUN_DIR`; else for users who have one `corral` in `XDG_RUNTIME_DIR`; else `/run/corral`. */
export function runFolder(): string {
  const { CORRAL_RUN_DIR: given, XDG_RUNTIME_DIR: own } = process.env;
  if (given !== undefined) return given;
  return own !== undefined && own !== '' && process.geteuid?.() !== 0 ? join(own, 'corral') : '/run/corral';
}

/**
 * The folder, made when it is missing, for its owner alone.
 *
 * @throws CorralError ERR_PERMISSION when somebody else could put something there
 */
export async function ensureRunFolder(folder = runFolder()): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await refuseForeign(folder);
  return folder;
}

/** Writes a file that only its owner reads; whoever reads it finds all of it, or the one before. */
export async function writeRunFile(name: string, text: string): Promise<void> {
  const path = join(await ensureRunFolder(), name);
  const fresh = `${path}.${process.pid}`;
  const file = await open(fresh, 'w', 0o600);
  try {
    await file.writeFile(text);
  } finally {
    await file.close();
  }
  await rename(fresh, path);
}

/**
 * What a file of the folder says; undefined when there is none.
 *
 * @throws CorralError ERR_PERMISSION when it, or the folder, is not this user's alone
 */
export async function readRunFile(name: string): Promise<string | undefined> {
  try {
    await refuseForeign(runFolder());
    const file = await open(join(runFolder(), name), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const status = await file.stat();
      refuseUnless(status.isFile() && isOurs(status), join(runFolder(), name));
      if (status.size > LONGEST_FILE) throw new CorralError('ERR_TOO_LARGE', { path: join(runFolder(), name) });
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

export async function removeRunFile(name: string): Promise<void> {
  await rm(join(runFolder(), name), { force: true });
}

async function refuseForeign(folder: string): Promise<void> {
  const status = await lstat(folder);
  refuseUnless(status.isDirectory() && isOurs(status), folder);
}

/** What a server does is said here: nobody else may have a say in it. */
function isOurs({ uid, mode }: { uid: number; mode: number }): boolean {
  return (uid === 0 || uid === process.geteuid?.()) && (mode & 0o022) === 0;
}

function refuseUnless(good: boolean, path: string): void {
  if (!good) throw new CorralError('ERR_PERMISSION', { path, reason: 'Others may write here: it is not trusted' });
}
