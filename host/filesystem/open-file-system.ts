/** Finds out which file system something is, and opens it for reading. */

import { ExtVolume } from './ext/ext-volume.js';
import { FatVolume } from './fat/fat-volume.js';
import { type FileSystem, VolumeFileSystem } from './file-system.js';
import { BoundedReader, type FileSystemOptions, type FileSystemSource, unsupported } from './source.js';

const EXT_MAGIC_OFFSET = 1080;
const EXT_MAGIC = 0xef53;

/** Magic numbers of file systems that are known by name only. */
const OTHERS: readonly (readonly [name: string, offset: number, magic: string])[] = [
  ['XFS', 0, 'XFSB'],
  ['Btrfs', 0x10040, '_BHRfS_M'],
  ['NTFS', 3, 'NTFS    '],
  ['exFAT', 3, 'EXFAT   '],
  ['swap space', 4086, 'SWAPSPACE2'],
  ['an LVM volume', 512, 'LABELONE'],
  ['SquashFS', 0, 'hsqs'],
  ['an encrypted volume (LUKS)', 0, 'LUKS'],
  ['ISO 9660', 0x8001, 'CD001'],
];

/**
 * Opens the ext2, ext3, ext4 or FAT file system that a disk or partition holds. Rejects with ERR_UNSUPPORTED for another one,
 * ERR_IMAGE_CORRUPT for one that makes no sense, ERR_TOO_LARGE when a limit is hit, ERR_CANCELLED when the signal ends it.
 */
export async function openFileSystem(source: FileSystemSource, options: FileSystemOptions = {}): Promise<FileSystem> {
  const reader = new BoundedReader(source, options);
  if (await isExt(reader)) return new VolumeFileSystem(await ExtVolume.open(reader));
  for (const [name, offset, magic] of OTHERS) {
    if (await hasText(reader, offset, magic)) throw unsupported(`The file system is not known here: it is ${name}`);
  }
  const fat = await FatVolume.open(reader);
  if (fat !== undefined) return new VolumeFileSystem(fat);
  throw unsupported('No file system was recognised (ext2, ext3, ext4 and FAT are known)');
}

async function isExt(reader: BoundedReader): Promise<boolean> {
  if (reader.size < 2048) return false;
  return (await reader.view(EXT_MAGIC_OFFSET, 2)).getUint16(0, true) === EXT_MAGIC;
}

async function hasText(reader: BoundedReader, offset: number, text: string): Promise<boolean> {
  if (offset + text.length > reader.size) return false;
  return String.fromCharCode(...(await reader.bytes(offset, text.length))) === text;
}
