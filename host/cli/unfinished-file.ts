/** A file that is filled under another name beside its place, which it takes when it is whole. */

import { chmod, chown, readlink, realpath, rename, type Stats, statSync, unlink } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';
import { systemErrorCode } from '../errors.js';
import { openFile } from './open.js';
import { CommandError, reasonOf } from './output.js';

// `node:fs/promises` is a part of Node that every start would wait for.
const chmodAsync = promisify(chmod);
const chownAsync = promisify(chown);
const readlinkAsync = promisify(readlink);
const realpathAsync = promisify(realpath);
const renameAsync = promisify(rename);
const unlinkAsync = promisify(unlink);

/** What is there under a name; undefined when nothing is. */
export function statOf(path: string, about: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw new CommandError(`${about}: Could not create '${path}': ${reasonOf(error)}`, 1, { cause: error });
  }
}

export class UnfinishedFile {
  private constructor(
    /** Its place, as the user knows it. */
    readonly target: string,
    private readonly place: string,
    private readonly replaced: Stats | undefined,
    private readonly held: { close(): Promise<void> } | undefined,
  ) {}

  /**
   * For the place `target`, where nothing is or a regular file that nobody uses; until `close` nobody can begin to. `about`
   * begins the line when somebody does.
   */
  static async beside(target: string, about: string): Promise<UnfinishedFile> {
    const replaced = statOf(target, about);
    // Through a symbolic link: what it points to is made or replaced, not the link.
    if (replaced === undefined) return new UnfinishedFile(target, await missingFile(target), undefined, undefined);
    const held = await holdReplaced(target, about);
    return new UnfinishedFile(target, await realpathAsync(target), replaced, held);
  }

  /** Where it is filled. */
  get path(): string {
    return `${this.place}.${process.pid}.unfinished`;
  }

  /** The file is whole: it takes its place, with the mode of what was there, and its owner where that is allowed. */
  async finish(): Promise<void> {
    if (this.replaced !== undefined) {
      const { mode, uid, gid } = this.replaced;
      await chownAsync(this.path, uid, gid).catch(() => {});
      await chmodAsync(this.path, mode & 0o7777);
    }
    await renameAsync(this.path, this.place);
  }

  /** Removes the file, where it did not take its place; nobody holds what is there any more. */
  async close(): Promise<void> {
    await unlinkAsync(this.path).catch(() => {});
    await this.held?.close();
  }
}

/** The file that does not exist, by its own name: `path`, or where symbolic links lead to from there. */
async function missingFile(path: string): Promise<string> {
  const link = await readlinkAsync(path).catch(() => undefined);
  return link === undefined ? path : missingFile(resolve(dirname(path), link));
}

async function holdReplaced(target: string, about: string): Promise<{ close(): Promise<void> }> {
  try {
    return await openFile(target, { write: true });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new CommandError(error.message.replace(/^Could not open '.*?': (?=Failed)/s, `${about}: `), 1, error);
  }
}
