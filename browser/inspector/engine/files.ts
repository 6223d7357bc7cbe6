/** Partitions, and the files in them, of every state that was looked at. */

import { CorralError } from '../../../host/errors.js';
import type { FileSystem } from '../../../host/filesystem/file-system.js';
import { openFileSystem } from '../../../host/filesystem/open-file-system.js';
import { partitionSource, readPartitions } from '../../../host/filesystem/partitions.js';
import type { FileSystemSource } from '../../../host/filesystem/source.js';
import type { FileDescription, FileList, PartitionList, PartitionRow, State } from '../protocol.js';
import type { GuestDisk } from './disk.js';
import { problemOf } from './problem.js';
import type { Session, View } from './session.js';

interface OpenPartition {
  readonly row: PartitionRow;
  /** Undefined when what is in it is not known here. */
  readonly files: FileSystem | undefined;
}

/** Entries of a directory that cross to the page. */
const MOST_ROWS = 20_000;

/** What is known of a state, as long as that is open. */
const known = new WeakMap<View, Promise<{ table: string | undefined; partitions: OpenPartition[] }>>();

/** The partitions of a state; a disk without a table is one partition. */
export async function partitionsOf(session: Session, state: State): Promise<PartitionList> {
  const { table, partitions } = await look(await session.view(state));
  return { table, partitions: partitions.map(({ row }) => row) };
}

/** What is in a folder, folders first. */
export async function listFolder(
  session: Session,
  { state, partition, path }: { state: State; partition: number; path: string },
): Promise<FileList> {
  const files = await fileSystem(session, state, partition);
  const entries = await files.list(path);
  const weight = (kind: string): number => (kind === 'directory' ? 0 : 1);
  const sorted = entries.toSorted(
    (one, other) => weight(one.kind) - weight(other.kind) || (one.name < other.name ? -1 : 1),
  );
  const rows = sorted.slice(0, MOST_ROWS).map(({ name, kind, size, modified }) => ({ name, kind, size, modified }));
  return { rows, count: entries.length };
}

/** What a file is, and where a link leads. */
export async function describeFile(
  session: Session,
  { state, partition, path }: { state: State; partition: number; path: string },
): Promise<FileDescription> {
  const files = await fileSystem(session, state, partition);
  const { kind, size } = await files.stat(path);
  return { kind, size, target: kind === 'symlink' ? await files.readLink(path) : undefined };
}

export async function readFile(
  session: Session,
  request: { state: State; partition: number; path: string; offset: number; length: number },
): Promise<Uint8Array<ArrayBuffer>> {
  const files = await fileSystem(session, request.state, request.partition);
  return Uint8Array.from(await files.read(request.path, request.offset, request.length));
}

async function fileSystem(session: Session, state: State, partition: number): Promise<FileSystem> {
  const { partitions } = await look(await session.view(state));
  const found = partitions.find(({ row }) => row.number === partition);
  if (found?.files !== undefined) return found.files;
  const reason = found?.row.problem?.message ?? `There is no partition ${partition}`;
  throw new CorralError('ERR_NOT_FOUND', { reason });
}

function look(view: View): Promise<{ table: string | undefined; partitions: OpenPartition[] }> {
  const before = known.get(view);
  if (before !== undefined) return before;
  const work = lookInto(sourceOf(view.disk));
  known.set(view, work);
  work.catch(() => known.delete(view));
  return work;
}

async function lookInto(disk: FileSystemSource): Promise<{ table: string | undefined; partitions: OpenPartition[] }> {
  const table = await readPartitions(disk);
  if (table === undefined) {
    const whole = { number: 0, offset: 0, length: disk.size, type: 'the whole disk', name: '' };
    return { table: undefined, partitions: [await openPartition(disk, whole)] };
  }
  const partitions: OpenPartition[] = [];
  for (const partition of table.partitions) {
    const { number, offset, length, type, name, isExtended } = partition;
    const row = { number, offset, length, type, name };
    const nothing = {
      row: { ...row, fileSystem: undefined, label: '', remarks: [], problem: undefined },
      files: undefined,
    };
    partitions.push(isExtended ? nothing : await openPartition(partitionSource(disk, partition), row));
  }
  return { table: table.kind, partitions };
}

async function openPartition(
  source: FileSystemSource,
  row: Pick<PartitionRow, 'number' | 'offset' | 'length' | 'type' | 'name'>,
): Promise<OpenPartition> {
  try {
    const files = await openFileSystem(source);
    const { type, label, remarks } = files;
    return { row: { ...row, fileSystem: type, label, remarks, problem: undefined }, files };
  } catch (error) {
    if (error instanceof CorralError && error.code === 'ERR_CANCELLED') throw error;
    return {
      row: { ...row, fileSystem: undefined, label: '', remarks: [], problem: problemOf(error) },
      files: undefined,
    };
  }
}

function sourceOf(disk: GuestDisk): FileSystemSource {
  return {
    size: disk.size,
    async read(offset, length) {
      const target = new Uint8Array(length);
      await disk.read(offset, target);
      return target;
    },
  };
}
