/** The partitions of a disk, for whoever wants to look into them. */

import { isMbr, type Partition, type PartitionTable, readPartitionTable } from './partition-table.js';
import { hasBytes, type Reader } from './reader.js';
import { BoundedReader, type FileSystemOptions, type FileSystemSource } from './source.js';

const HEAD_LENGTH = 8192;
const GPT_SIGNATURE = 'EFI PART';

/** Undefined: the disk has no partition table; what it holds it holds as a whole. */
export async function readPartitions(
  source: FileSystemSource,
  options: FileSystemOptions = {},
): Promise<PartitionTable | undefined> {
  const bounded = new BoundedReader(source, options);
  const disk: Reader = {
    length: source.size,
    async bytes(offset, length) {
      const target = new Uint8Array(length);
      const inside = Math.max(0, Math.min(length, source.size - offset));
      if (inside > 0) target.set(await bounded.bytes(offset, inside));
      return target;
    },
  };
  const head = await disk.bytes(0, HEAD_LENGTH);
  if ([512, 4096].some((offset) => hasBytes(head, offset, GPT_SIGNATURE))) return readPartitionTable(disk, 'gpt');
  return isMbr(head) ? readPartitionTable(disk, 'mbr') : undefined;
}

/** A partition as a source: what leaves the disk is cut off. */
export function partitionSource(source: FileSystemSource, { offset, length }: Partition): FileSystemSource {
  const size = Math.max(0, Math.min(length, source.size - offset));
  return { size, read: (within, count) => source.read(offset + within, count) };
}
