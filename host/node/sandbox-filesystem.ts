/** Looking into a disk: what is done in a sandbox for `partitions`, `ls`, `cat` and `cp`. */

import type { BlockFile } from '../block-file.js';
import { CorralError } from '../errors.js';
import type { FileEntry, FileStatus, FileSystem } from '../filesystem/file-system.js';
import { openFileSystem } from '../filesystem/open-file-system.js';
import type { Partition, PartitionTable } from '../filesystem/partition-table.js';
import { partitionSource, readPartitions } from '../filesystem/partitions.js';
import type { FileSystemSource } from '../filesystem/source.js';

/** Bytes of a file that are read and handed over at once. */
const PIECE = 2 ** 20;
/** Directories in each other, as far as they are followed: paths are no longer than 4096 characters. */
const DEEPEST = 256;

/** What the partitions of the disk are. */
export interface PartitionsJob {
  readonly kind: 'partitions';
}

/** What a path leads to: the entries of a directory, and of those within it; or one entry for what is none. */
export interface ListJob {
  readonly kind: 'list';
  readonly partition: number | undefined;
  readonly path: string;
  readonly recursive: boolean;
}

/** The bytes of a file; of a directory, when `recursive`, every entry, and after a file's its bytes. */
export interface CopyJob {
  readonly kind: 'copy';
  readonly partition: number | undefined;
  readonly path: string;
  readonly recursive: boolean;
}

export type FileSystemJob = PartitionsJob | ListJob | CopyJob;

/** A partition, and which file system it holds as far as that is known. */
export interface PartitionReport extends Partition {
  readonly fileSystem: string | undefined;
  readonly label: string | undefined;
}

export interface PartitionsReport {
  /** Undefined: there is no table, and the one entry is the whole disk. */
  readonly table: PartitionTable['kind'] | undefined;
  readonly partitions: readonly PartitionReport[];
  readonly faults: readonly string[];
}

/** An entry below the path of the job; an empty path is what that leads to. */
export interface FoundEntry extends FileStatus {
  readonly path: readonly string[];
  /** Where a link leads. */
  readonly target?: string | undefined;
}

/** Takes what is found, in its order. Each call is waited for. */
export interface Collector {
  entry(entry: FoundEntry): Promise<void>;
  /** Bytes of the entry before. */
  data(bytes: Uint8Array): Promise<void>;
}

/** What is left to say in the end. */
export interface FileSystemAnswer {
  readonly remarks: readonly string[];
}

/** Does the job on a disk. Rejects as the file system does. */
export async function runFileSystemJob(
  job: FileSystemJob,
  disk: BlockFile,
  collector: Collector,
  signal: AbortSignal | undefined,
): Promise<PartitionsReport | FileSystemAnswer> {
  const source = await sourceOf(disk);
  const options = { signal };
  if (job.kind === 'partitions') return reportPartitions(source, options);
  const fileSystem = await openFileSystem(await chosenPart(source, job.partition, options), options);
  const { path, recursive } = job;
  const walk = new Walk(fileSystem, collector, { withData: job.kind === 'copy', recursive });
  await walk.from(path);
  return { remarks: fileSystem.remarks };
}

async function sourceOf(disk: BlockFile): Promise<FileSystemSource> {
  return {
    size: await disk.size(),
    async read(offset, length) {
      const target = new Uint8Array(length);
      await disk.read(offset, target);
      return target;
    },
  };
}

interface ReadOptions {
  readonly signal: AbortSignal | undefined;
}

async function reportPartitions(source: FileSystemSource, options: ReadOptions): Promise<PartitionsReport> {
  const table = await readPartitions(source, options);
  const whole = { offset: 0, length: source.size, type: '', number: 0, name: '', isExtended: false };
  const partitions: PartitionReport[] = [];
  for (const partition of table?.partitions ?? [whole]) {
    const held = partition.isExtended ? undefined : await heldBy(partitionSource(source, partition), options);
    partitions.push({ ...partition, fileSystem: held?.type, label: held?.label });
  }
  return { table: table?.kind, partitions, faults: (table?.faults ?? []).map(({ message }) => message) };
}

/** Undefined for what is not known, or makes no sense. */
async function heldBy(source: FileSystemSource, options: ReadOptions): Promise<FileSystem | undefined> {
  try {
    return await openFileSystem(source, options);
  } catch (error) {
    const known = error instanceof CorralError && ['ERR_UNSUPPORTED', 'ERR_IMAGE_CORRUPT'].includes(error.code);
    if (!known) throw error;
    return undefined;
  }
}

/** The partition of this number; without one, the only one that there is, or the whole disk. */
async function chosenPart(
  source: FileSystemSource,
  number: number | undefined,
  options: ReadOptions,
): Promise<FileSystemSource> {
  const table = await readPartitions(source, options);
  if (table === undefined) {
    if (number === undefined || number === 0) return source;
    throw new CorralError('ERR_NOT_FOUND', {
      reason: `There is no partition ${number}: the disk has no partition table`,
    });
  }
  const parts = table.partitions.filter(({ isExtended }) => !isExtended);
  const chosen = number === undefined && parts.length === 1 ? parts[0] : parts.find((part) => part.number === number);
  if (chosen !== undefined) return partitionSource(source, chosen);
  const numbers = parts.map((part) => part.number).join(', ') || 'none';
  if (number !== undefined)
    throw new CorralError('ERR_NOT_FOUND', { reason: `There is no partition ${number}, but ${numbers}` });
  throw new CorralError('ERR_INVALID_ARGUMENT', {
    reason: `The disk has several partitions (${numbers}): say which, as in IMAGE:${parts[0]?.number ?? 1}`,
  });
}

/** Goes through a part of a file system, and tells what it finds. */
class Walk {
  /** Directories on the way: one within itself would never end. */
  private readonly above: number[] = [];

  constructor(
    private readonly fileSystem: FileSystem,
    private readonly collector: Collector,
    private readonly options: { readonly withData: boolean; readonly recursive: boolean },
  ) {}

  async from(path: string): Promise<void> {
    // A link that is named is followed.
    const status = await this.fileSystem.stat(path, { follow: true });
    const { withData, recursive } = this.options;
    if (status.kind !== 'directory') return this.entry(path, [], status);
    if (withData && !recursive) throw new CorralError('ERR_INVALID_ARGUMENT', { path, reason: 'Is a directory' });
    if (withData) await this.collector.entry({ ...status, path: [] });
    await this.directory(path, [], status);
  }

  private async directory(root: string, path: readonly string[], { id }: FileStatus): Promise<void> {
    if (this.above.includes(id) || path.length > DEEPEST) {
      throw new CorralError('ERR_IMAGE_CORRUPT', {
        reason: 'The file system is damaged: a directory lies within itself',
      });
    }
    this.above.push(id);
    for (const found of await this.fileSystem.list([root, ...path].join('/'))) {
      const inner = [...path, found.name];
      await this.entry(root, inner, found);
      if (found.kind === 'directory' && this.options.recursive) await this.directory(root, inner, found);
    }
    this.above.pop();
  }

  private async entry(root: string, path: readonly string[], found: FileStatus | FileEntry): Promise<void> {
    const whole = [root, ...path].join('/');
    const { kind, id, size, modified, mode, uid, gid } = found;
    const target = kind === 'symlink' ? await this.fileSystem.readLink(whole).catch(() => undefined) : undefined;
    await this.collector.entry({ path, kind, id, size, modified, mode, uid, gid, target });
    if (!this.options.withData || kind !== 'file') return;
    for (let offset = 0; offset < size; offset += PIECE) {
      await this.collector.data(await this.fileSystem.read(whole, offset, Math.min(PIECE, size - offset)));
    }
  }
}
