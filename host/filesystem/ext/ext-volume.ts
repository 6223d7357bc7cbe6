/** ext2, ext3 and ext4. The journal is not replayed; indexes of directories are not needed, as their leaves hold all names. */

import { checkName, type FileSystemType, type RawEntry, type Volume } from '../file-system.js';
import { viewOf } from '../reader.js';
import { type BoundedReader, damaged, unsupported } from '../source.js';
import { findRun } from './block-map.js';
import { type Inode, parseInode } from './inode.js';
import { Superblock } from './superblock.js';

const ROOT = 2;
/** Bytes in front of the names in a directory that stands in its inode: the number of its parent. */
const PARENT_SIZE = 4;
const ENTRY_HEAD = 8;
/** Bytes of an entry on average, at least: bounds how long a directory may be that has few names. */
const ENTRY_MINIMUM = 12;
/** Directories also have empty blocks, and indexes. */
const DIRECTORY_SLACK = 2 ** 20;

export class ExtVolume implements Volume<Inode> {
  readonly type: FileSystemType;
  readonly label: string;
  readonly size: number;
  readonly remarks: readonly string[];
  readonly ignoresCase = false;

  private constructor(
    private readonly reader: BoundedReader,
    private readonly superblock: Superblock,
  ) {
    const { type, label, blockCount, blockSize, needsRecovery } = superblock;
    this.type = type;
    this.label = label;
    this.size = blockCount * blockSize;
    this.remarks = needsRecovery ? ['the journal holds changes that are not shown'] : [];
  }

  static async open(reader: BoundedReader): Promise<ExtVolume> {
    const volume = new ExtVolume(reader, await Superblock.read(reader));
    if ((await volume.root()).kind !== 'directory') throw damaged('its root is no directory');
    return volume;
  }

  root(): Promise<Inode> {
    return this.inode(ROOT);
  }

  async entries(directory: Inode): Promise<RawEntry<Inode>[]> {
    const entries: RawEntry<Inode>[] = [];
    const { inline, size } = directory;
    const { blockSize } = this.superblock;
    if (inline !== undefined) {
      const [first, rest] = inline;
      for (const piece of [first?.subarray(PARENT_SIZE), rest]) if (piece?.length) this.collect(piece, entries);
      return entries;
    }
    const { maxEntries } = this.reader.limits;
    if (size > maxEntries * ENTRY_MINIMUM + DIRECTORY_SLACK * Math.ceil(blockSize / 4096)) {
      throw damaged(`the directory of inode ${directory.number} is too long`);
    }
    for (let offset = 0; offset < size; offset += blockSize) {
      this.collect(await this.readNode(directory, offset, blockSize), entries);
    }
    return entries;
  }

  async readNode(node: Inode, offset: number, length: number): Promise<Uint8Array> {
    if (node.isEncrypted) throw unsupported('The file is encrypted');
    const target = new Uint8Array(length);
    if (node.inline !== undefined) {
      copyPieces(node.inline, offset, target);
      return target;
    }
    const { blockSize } = this.superblock;
    for (let done = 0; done < length; ) {
      const index = Math.floor((offset + done) / blockSize);
      const within = (offset + done) % blockSize;
      const { block, count } = await findRun(this.reader, this.superblock, node, index);
      const piece = Math.min(length - done, count * blockSize - within);
      if (block !== undefined) target.set(await this.reader.content(block * blockSize + within, piece), done);
      done += piece;
    }
    return target;
  }

  private async inode(number: number): Promise<Inode> {
    const { inodeSize } = this.superblock;
    const offset = await this.superblock.inodeOffset(number);
    return parseInode(number, await this.reader.bytes(offset, inodeSize));
  }

  /** The names in a block. */
  private collect(block: Uint8Array, entries: RawEntry<Inode>[]): void {
    const view = viewOf(block);
    for (let at = 0; at + ENTRY_HEAD <= block.length; ) {
      const number = view.getUint32(at, true);
      const stored = view.getUint16(at + 4, true);
      // A block of 64 KiB does not fit in the field.
      const length = stored === 0 || stored === 0xffff ? 65536 : stored;
      const nameLength = this.superblock.hasFileType ? view.getUint8(at + 6) : view.getUint16(at + 6, true);
      if (length < ENTRY_HEAD || length % 4 !== 0 || at + length > block.length || ENTRY_HEAD + nameLength > length) {
        throw damaged('an entry of a directory');
      }
      const bytes = block.slice(at + ENTRY_HEAD, at + ENTRY_HEAD + nameLength);
      const name = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
      if (number !== 0 && name !== '.' && name !== '..') {
        if (entries.length === this.reader.limits.maxEntries) throw damaged('a directory has too many entries');
        entries.push({ name: checkName(name), bytes, open: () => this.inode(number) });
      }
      at += length;
    }
  }
}

function copyPieces(pieces: readonly Uint8Array[], offset: number, target: Uint8Array): void {
  let start = 0;
  for (const piece of pieces) {
    const from = Math.max(0, offset - start);
    const to = Math.min(piece.length, offset + target.length - start);
    if (from < to) target.set(piece.subarray(from, to), start + from - offset);
    start += piece.length;
  }
}
