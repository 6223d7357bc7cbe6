/** Files out of a disk of a stranger's, into a folder here: nothing is overwritten, nothing is put anywhere else. */

import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Collector, FoundEntry } from '../node/sandbox-filesystem.js';
import { CommandError, reasonOf, type Terminal } from './output.js';

/** Never through a link, never onto something: names within a directory that was just made cannot have either. */
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export class CopyOut implements Collector {
  private file:
    | { readonly handle: FileHandle; readonly path: string; readonly entry: FoundEntry; written: number }
    | undefined;

  private constructor(
    /** Where what was asked for is put. */
    private readonly target: string,
    private readonly terminal: Terminal,
  ) {}

  /** Into a folder that exists, under its own name, or as `target`. */
  static async to(target: string, source: string, terminal: Terminal): Promise<CopyOut> {
    const status = await stat(target).catch(() => undefined);
    if (!status?.isDirectory()) return new CopyOut(target, terminal);
    const name = basename(source);
    const known = name !== '' && name !== '.' && name !== '..' && name !== '/';
    return new CopyOut(known ? join(target, name) : target, terminal);
  }

  async entry(entry: FoundEntry): Promise<void> {
    await this.finish();
    const path = join(this.target, ...entry.path);
    const mode = (entry.mode ?? 0o644) & 0o777;
    switch (entry.kind) {
      case 'directory':
        await about(path, () => mkdir(path, { mode: mode | 0o700 }));
        break;
      case 'file':
        this.file = { handle: await about(path, () => open(path, NEW_FILE, mode)), path, entry, written: 0 };
        break;
      default:
        this.terminal.note(`Note: not copied, it is ${WHAT[entry.kind]}: '${entry.path.join('/')}'`);
    }
  }

  async data(bytes: Uint8Array): Promise<void> {
    const { file } = this;
    if (file === undefined) throw new CommandError('Bytes of no file came out of the sandbox');
    await about(file.path, () => file.handle.writeFile(bytes));
    file.written += bytes.length;
  }

  /** The last file is whole. */
  async finish(): Promise<void> {
    const { file } = this;
    if (file === undefined) return;
    if (file.written !== file.entry.size)
      throw new CommandError(`'${file.path}': it came out shorter or longer than it is`);
    const { modified } = file.entry;
    const time = modified === undefined ? undefined : modified / 1000;
    if (time !== undefined) await about(file.path, () => file.handle.utimes(time, time));
    await about(file.path, () => file.handle.close());
    this.file = undefined;
  }

  /** What is not whole goes away. */
  async abandon(): Promise<void> {
    const { file } = this;
    this.file = undefined;
    await file?.handle.close().catch(() => {});
    if (file !== undefined) await rm(file.path, { force: true });
  }
}

const WHAT = { symlink: 'a symbolic link', other: 'no file', damaged: 'damaged' } as const;

async function about<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new CommandError(`'${path}': ${reasonOf(error)}`, 1, { cause: error });
  }
}
