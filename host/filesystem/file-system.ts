/** Files and folders by their paths, whatever the file system: names are looked for here, links followed, never out of it. */

import { CorralError } from '../errors.js';
import { damaged } from './source.js';

export type FileSystemType = 'ext2' | 'ext3' | 'ext4' | 'fat12' | 'fat16' | 'fat32';

/** `other`: a device, a pipe or a socket. `damaged`: what the entry leads to makes no sense. */
export type FileKind = 'file' | 'directory' | 'symlink' | 'other' | 'damaged';

/** What is known of a file. */
export interface FileStatus {
  readonly kind: FileKind;
  /** The same for two entries only when they lead to the same file. */
  readonly id: number;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970 began; undefined when it is not told. */
  readonly modified: number | undefined;
  /** Type and permissions as in Unix; undefined on FAT. */
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/** A name in a directory. It has neither a slash nor a zero byte, and is not empty, "." or "..". */
export interface FileEntry extends FileStatus {
  /** What is no UTF-8 is replaced; such a name still can be looked up. */
  readonly name: string;
}

/** Can only be read. Paths begin at the root, with or without a slash; "." and ".." are understood. */
export interface FileSystem {
  readonly type: FileSystemType;
  readonly label: string;
  /** Bytes that it says it takes. */
  readonly size: number;
  /** What the user should know, a line each: a journal that was not replayed. */
  readonly remarks: readonly string[];
  /** In the order of the directory. Rejects with ERR_NOT_FOUND, ERR_INVALID_ARGUMENT when it is no directory. */
  list(path: string): Promise<FileEntry[]>;
  /** Of a link itself, or with `follow` of what it leads to. */
  stat(path: string, options?: { follow?: boolean }): Promise<FileStatus>;
  /** Where a link leads, as it says. ERR_INVALID_ARGUMENT for what is none. */
  readLink(path: string): Promise<string>;
  /**
   * Up to `length` bytes of a file from `offset` on, fewer where it ends. Rejects with ERR_NOT_FOUND, ERR_INVALID_ARGUMENT
   * for what is no file, ERR_UNSUPPORTED, ERR_IMAGE_CORRUPT.
   */
  read(path: string, offset: number, length: number): Promise<Uint8Array>;
}

/** A name as it stands on the disk. */
export interface RawEntry<Node> {
  readonly name: string;
  /** Undefined where names are texts. */
  readonly bytes?: Uint8Array;
  /** What it leads to. Rejects when that makes no sense. */
  open(): Promise<Node>;
}

/** What each file system can do by itself. */
export interface Volume<Node extends FileStatus> {
  readonly type: FileSystemType;
  readonly label: string;
  readonly size: number;
  readonly remarks: readonly string[];
  readonly ignoresCase: boolean;
  root(): Promise<Node>;
  /** Without "." and "..". */
  entries(directory: Node): Promise<RawEntry<Node>[]>;
  /** Within the size of the file. */
  readNode(file: Node, offset: number, length: number): Promise<Uint8Array>;
}

/** As in Linux. */
const MOST_LINKS = 40;
const LONGEST_PATH = 65536;
const LONGEST_TARGET = 4096;
/** Directories whose entries are held. */
const HELD_DIRECTORIES = 4;

export class VolumeFileSystem<Node extends FileStatus> implements FileSystem {
  readonly type: FileSystemType;
  readonly label: string;
  readonly size: number;
  readonly remarks: readonly string[];
  private readonly held = new Map<number, RawEntry<Node>[]>();

  constructor(private readonly volume: Volume<Node>) {
    this.type = volume.type;
    this.label = volume.label;
    this.size = volume.size;
    this.remarks = volume.remarks;
  }

  async list(path: string): Promise<FileEntry[]> {
    const directory = await this.find(path, true);
    if (directory.kind !== 'directory') throw wrongKind(path, 'Not a directory');
    const entries: FileEntry[] = [];
    for (const entry of await this.entries(directory)) {
      const { name } = entry;
      entries.push({ name, ...(await entry.open().then(statusOf, damagedStatus)) });
    }
    return entries;
  }

  async stat(path: string, { follow = false } = {}): Promise<FileStatus> {
    return statusOf(await this.find(path, follow));
  }

  async readLink(path: string): Promise<string> {
    const node = await this.find(path, false);
    if (node.kind !== 'symlink') throw wrongKind(path, 'Not a symbolic link');
    return this.targetOf(node);
  }

  async read(path: string, offset: number, length: number): Promise<Uint8Array> {
    const file = await this.find(path, true);
    if (file.kind === 'directory') throw wrongKind(path, 'Is a directory');
    if (file.kind !== 'file') throw wrongKind(path, 'Not a file');
    const count = Math.min(length, file.size - offset);
    return count <= 0 ? new Uint8Array(0) : this.volume.readNode(file, offset, count);
  }

  /** Follows links in the middle, and the last one when `follow`. */
  private async find(path: string, follow: boolean): Promise<Node> {
    const names = namesOf(path);
    const above: Node[] = [];
    let node = await this.volume.root();
    let links = 0;
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      if (name === '..') {
        node = above.pop() ?? node;
        continue;
      }
      if (node.kind !== 'directory') throw wrongKind(path, 'Not a directory');
      const found = await this.lookup(node, name);
      if (found === undefined) throw new CorralError('ERR_NOT_FOUND', { path, reason: 'No such file or directory' });
      if (found.kind !== 'symlink' || (names.length === 0 && !follow)) {
        above.push(node);
        node = found;
        continue;
      }
      if (++links > MOST_LINKS) throw wrongKind(path, 'Too many levels of symbolic links');
      const target = await this.targetOf(found);
      // An absolute one begins at the root of this file system: nothing leads out of it.
      if (target.startsWith('/')) node = above[0] ?? node;
      if (target.startsWith('/')) above.length = 0;
      names.unshift(...namesOf(target));
    }
    return node;
  }

  private async entries(directory: Node): Promise<RawEntry<Node>[]> {
    const entries = this.held.get(directory.id) ?? (await this.volume.entries(directory));
    this.held.delete(directory.id);
    this.held.set(directory.id, entries);
    const [oldest] = this.held.keys();
    if (this.held.size > HELD_DIRECTORIES && oldest !== undefined) this.held.delete(oldest);
    return entries;
  }

  private async lookup(directory: Node, name: string): Promise<Node | undefined> {
    const entries = await this.entries(directory);
    const wanted = new TextEncoder().encode(name);
    const same = (bytes: Uint8Array): boolean =>
      bytes.length === wanted.length && bytes.every((byte, index) => byte === wanted[index]);
    const exact = entries.find((entry) => (entry.bytes === undefined ? entry.name === name : same(entry.bytes)));
    const folded = (text: string): string => (this.volume.ignoresCase ? text.toUpperCase() : text);
    return (exact ?? entries.find((entry) => folded(entry.name) === folded(name)))?.open();
  }

  private async targetOf(link: Node): Promise<string> {
    if (link.size > LONGEST_TARGET) throw damaged('a symbolic link is too long');
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(await this.volume.readNode(link, 0, link.size));
  }
}

/** The parts of a path. Throws ERR_INVALID_ARGUMENT. */
function namesOf(path: string): string[] {
  if (path.length > LONGEST_PATH) throw wrongKind(path.slice(0, 40), 'File name too long');
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function wrongKind(path: string, reason: string): CorralError {
  return new CorralError('ERR_INVALID_ARGUMENT', { path, reason });
}

/** Nothing but what is public. */
function statusOf({ kind, id, size, modified, mode, uid, gid }: FileStatus): FileStatus {
  return { kind, id, size, modified, mode, uid, gid };
}

/** Of an entry that leads to nonsense; what ends the whole reading is thrown. */
function damagedStatus(error: unknown): FileStatus {
  if (!(error instanceof CorralError) || error.code !== 'ERR_IMAGE_CORRUPT') throw error;
  const nothing = { modified: undefined, mode: undefined, uid: undefined, gid: undefined };
  return { kind: 'damaged', id: 0, size: 0, ...nothing };
}

/** Refuses names by which a file could be put somewhere else than where it seems to lie. */
export function checkName(name: string): string {
  if (name === '' || name.includes('/') || name.includes('\0')) throw damaged('a name with a slash or a zero byte');
  return name;
}
