/** The superblock of ext2, ext3 and ext4, and the group descriptors. Linux, Documentation/filesystems/ext4/. */

import type { FileSystemType } from '../file-system.js';
import { type BoundedReader, damaged, unsupported } from '../source.js';

const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_SIZE = 1024;

const HAS_JOURNAL = 0x4;
const SPARSE_SUPER_2 = 0x200;

const FILETYPE = 0x2;
const RECOVER = 0x4;
const META_BG = 0x10;
const SIXTY_FOUR_BIT = 0x80;
/** filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir, inline_data, encrypt, casefold. */
const KNOWN_INCOMPATIBLE = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x30000;
/** extents, 64bit, flex_bg and what came with them. */
const ONLY_EXT4 = 0x40 | 0x80 | 0x200 | 0x2000 | 0x4000 | 0x8000 | 0x30000;

const SPARSE_SUPER = 0x1;
const BIGALLOC = 0x200;
/** huge_file, uninit_bg, dir_nlink, extra_isize, bigalloc, metadata_csum. */
const ONLY_EXT4_READ_ONLY = 0x8 | 0x10 | 0x20 | 0x40 | BIGALLOC | 0x400;

/** 64 KiB. */
const LARGEST_LOG_BLOCK = 6;
const LARGEST_DESCRIPTOR = 1024;

export class Superblock {
  readonly type: FileSystemType;
  readonly label: string;
  readonly blockSize: number;
  readonly blockCount: number;
  readonly inodeCount: number;
  readonly inodeSize: number;
  /** Names have their type beside them. */
  readonly hasFileType: boolean;
  /** Changes lie in the journal that are not in their places. */
  readonly needsRecovery: boolean;
  private readonly inodesPerGroup: number;
  private readonly blocksPerGroup: number;
  private readonly firstDataBlock: number;
  private readonly descriptorSize: number;
  private readonly firstMetaGroup: number;
  private readonly compatible: number;
  private readonly incompatible: number;
  private readonly readOnlyCompatible: number;
  private readonly backupGroups: readonly number[];

  /** Throws ERR_IMAGE_CORRUPT or ERR_UNSUPPORTED. */
  private constructor(
    private readonly reader: BoundedReader,
    view: DataView,
  ) {
    const u32 = (offset: number): number => view.getUint32(offset, true);
    const u16 = (offset: number): number => view.getUint16(offset, true);
    const isDynamic = u32(0x4c) >= 1;
    this.compatible = isDynamic ? u32(0x5c) : 0;
    this.incompatible = isDynamic ? u32(0x60) : 0;
    this.readOnlyCompatible = isDynamic ? u32(0x64) : 0;
    const unknown = this.incompatible & ~KNOWN_INCOMPATIBLE;
    if (unknown !== 0) throw unsupported(`The ext file system has features that are not known here (${hex(unknown)})`);
    const logBlockSize = u32(0x18);
    if (logBlockSize > LARGEST_LOG_BLOCK) throw wrong('the size of its blocks', 0x18);
    this.blockSize = 1024 << logBlockSize;
    const is64 = (this.incompatible & SIXTY_FOUR_BIT) !== 0;
    this.blockCount = u32(0x4) + (is64 ? u32(0x150) * 2 ** 32 : 0);
    if (this.blockCount === 0 || !Number.isSafeInteger(this.blockCount * this.blockSize)) {
      throw wrong('the number of its blocks', 0x4);
    }
    this.inodeCount = u32(0x0);
    this.firstDataBlock = u32(0x14);
    this.blocksPerGroup = u32(0x20);
    this.inodesPerGroup = u32(0x28);
    if (this.blocksPerGroup === 0 || this.blocksPerGroup > this.blockSize * 8 * (this.hasBigAlloc ? 2 ** 16 : 1)) {
      throw wrong('the number of blocks in a group', 0x20);
    }
    if (this.inodesPerGroup === 0 || this.inodesPerGroup > this.blockSize * 8) {
      throw wrong('the number of inodes in a group', 0x28);
    }
    this.inodeSize = isDynamic ? u16(0x58) : 128;
    const isPower = (this.inodeSize & (this.inodeSize - 1)) === 0;
    if (this.inodeSize < 128 || this.inodeSize > this.blockSize || !isPower)
      throw wrong('the size of its inodes', 0x58);
    this.descriptorSize = is64 ? u16(0xfe) : 32;
    if (this.descriptorSize < 32 || this.descriptorSize > LARGEST_DESCRIPTOR || this.descriptorSize % 4 !== 0) {
      throw wrong('the size of its group descriptors', 0xfe);
    }
    this.firstMetaGroup = u32(0x104);
    this.backupGroups = [u32(0x24c), u32(0x250)];
    this.hasFileType = (this.incompatible & FILETYPE) !== 0;
    this.needsRecovery = (this.incompatible & RECOVER) !== 0;
    this.label = textOf(view, 0x78, 16);
    this.type = this.typeName();
  }

  static async read(reader: BoundedReader): Promise<Superblock> {
    return new Superblock(reader, await reader.view(SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE));
  }

  /** Where an inode lies, in bytes. */
  async inodeOffset(number: number): Promise<number> {
    if (number < 1 || number > this.inodeCount) throw damaged(`there is no inode ${number}`);
    const group = Math.floor((number - 1) / this.inodesPerGroup);
    const at = await this.descriptorOffset(group);
    const view = await this.reader.view(at, this.descriptorSize);
    const high = this.descriptorSize >= 64 ? view.getUint32(0x28, true) : 0;
    const table = view.getUint32(0x8, true) + high * 2 ** 32;
    return this.blockOffset(table) + ((number - 1) % this.inodesPerGroup) * this.inodeSize;
  }

  /** Where a block lies, in bytes. Throws for one that is not part of the file system. */
  blockOffset(block: number, count = 1): number {
    if (block < 1 || block + count > this.blockCount) throw damaged(`there is no block ${block}`);
    return block * this.blockSize;
  }

  private async descriptorOffset(group: number): Promise<number> {
    const perBlock = Math.floor(this.blockSize / this.descriptorSize);
    const index = Math.floor(group / perBlock);
    const within = (group % perBlock) * this.descriptorSize;
    const isMeta = (this.incompatible & META_BG) !== 0 && index >= this.firstMetaGroup;
    // Behind the superblock, which with blocks of 1 KiB has one of its own.
    if (!isMeta) return this.blockOffset(this.firstDataBlock + 1 + index) + within;
    const first = index * perBlock;
    const block = this.firstDataBlock + first * this.blocksPerGroup + (this.hasSuperblock(first) ? 1 : 0);
    return this.blockOffset(block) + within;
  }

  private hasSuperblock(group: number): boolean {
    if (group === 0) return true;
    if ((this.compatible & SPARSE_SUPER_2) !== 0) return this.backupGroups.includes(group);
    if ((this.readOnlyCompatible & SPARSE_SUPER) === 0 || group === 1) return true;
    return [3, 5, 7].some((base) => isPowerOf(group, base));
  }

  private get hasBigAlloc(): boolean {
    return (this.readOnlyCompatible & BIGALLOC) !== 0;
  }

  private typeName(): FileSystemType {
    const is4 = (this.incompatible & ONLY_EXT4) !== 0 || (this.readOnlyCompatible & ONLY_EXT4_READ_ONLY) !== 0;
    if (is4) return 'ext4';
    return (this.compatible & HAS_JOURNAL) !== 0 ? 'ext3' : 'ext2';
  }
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

function wrong(what: string, offset: number): Error {
  return damaged(`${what} makes no sense`, SUPERBLOCK_OFFSET + offset);
}

function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}

function textOf(view: DataView, offset: number, length: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + offset, length);
  const end = bytes.indexOf(0);
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(end === -1 ? bytes : bytes.subarray(0, end));
}
