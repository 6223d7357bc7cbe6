import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type FileSystem, openFileSystem, partitionSource, readPartitions } from '../../host/index.js';
import { chooseSeed, randomFrom } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';
import { contentsIn, contentsOf, makeExt, makeFat, makeTree, sourceOf } from './trees.js';

const SEED = chooseSeed();

let folder: string;
let tree: string;
let plainTree: string;
let smallTree: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'corral-test-'));
  tree = join(folder, 'tree');
  plainTree = join(folder, 'plain');
  execFileSync('mkdir', [tree, plainTree]);
  makeTree(tree);
  makeTree(plainTree, { plain: true });
  smallTree = join(folder, 'small');
  execFileSync('mkdir', [smallTree]);
  makeTree(smallTree, { plain: true, many: 30 });
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** An image with the tree, by the options of mkfs.ext4; `-D` lets e2fsck index directories. */
function extImage(options: readonly string[], contents = tree): Uint8Array {
  const image = join(temporaryFolder(), 'image');
  const indexed = options.includes('-D');
  makeExt(
    contents,
    image,
    options.filter((option) => option !== '-D'),
  );
  if (indexed) execFileSync('sh', ['-c', `e2fsck -fyD "${image}" || [ $? -eq 1 ]`], { stdio: 'pipe' });
  return new Uint8Array(readFileSync(image));
}

function fatImage(megabytes: number, options: readonly string[] = [], contents = plainTree): Uint8Array {
  const image = join(temporaryFolder(), 'image');
  makeFat(contents, image, options, megabytes);
  return new Uint8Array(readFileSync(image));
}

describe('an ext file system holds what was put into it', () => {
  test.each([
    ['ext2', ['-t', 'ext2', '-b', '1024']],
    ['ext2', ['-t', 'ext2', '-b', '4096', '-I', '128']],
    ['ext3', ['-t', 'ext3', '-b', '1024', '-J', 'size=1']],
    ['ext4', ['-b', '1024']],
    ['ext4', ['-b', '4096', '-D']],
    ['ext4', ['-b', '1024', '-D']],
    ['ext4', ['-b', '2048', '-O', '^has_journal,^64bit,^flex_bg']],
    ['ext4', ['-b', '4096', '-O', 'inline_data', '-I', '512']],
    ['ext4', ['-b', '1024', '-g', '1024', '-O', 'meta_bg,^resize_inode']],
    ['ext4', ['-b', '4096', '-O', 'bigalloc', '-C', '16384']],
    ['ext4', ['-b', '1024', '-O', 'sparse_super2,^metadata_csum,large_dir']],
  ])('%s, %s', async (type, options) => {
    const fileSystem = await openFileSystem(sourceOf(extImage(options)));

    expect(fileSystem).toMatchObject({ type, label: 'a label', remarks: [] });
    expect(await contentsIn(fileSystem)).toEqual(contentsOf(tree));
  });
});

describe('a FAT file system holds what was put into it', () => {
  test.each([
    ['fat12', 4, ['-F', '12', '-s', '4']],
    ['fat12', 2, ['-F', '12', '-f', '1', '-S', '1024']],
    ['fat16', 16, ['-F', '16', '-s', '2']],
    ['fat32', 40, ['-F', '32', '-s', '1']],
  ])('%s, %d MiB, %s', async (type, megabytes, options) => {
    const fileSystem = await openFileSystem(sourceOf(fatImage(megabytes, options)));

    expect(fileSystem).toMatchObject({ type, label: 'A LABEL' });
    expect(await contentsIn(fileSystem)).toEqual(contentsOf(plainTree));
  });

  test('names are found whatever their case, files read from any byte on', async () => {
    const fileSystem = await openFileSystem(sourceOf(fatImage(8)));
    const wanted = readFileSync(join(plainTree, 'deep/er/est/bytes'));

    const piece = await fileSystem.read('/DEEP/eR/Est/BYTES', 123_456, 70_001);

    expect(Buffer.from(piece).equals(wanted.subarray(123_456, 193_457))).toBe(true);
  });
});

describe('paths', () => {
  let fileSystem: FileSystem;

  beforeAll(async () => {
    const image = join(folder, 'paths');
    makeExt(tree, image, []);
    fileSystem = await openFileSystem(sourceOf(new Uint8Array(readFileSync(image))));
  });

  test.each(['/short', 'short', '//deep/.././short', 'deep/absolute', 'deep/upwards', 'slow link', '../../../short'])(
    '%s leads to the file, and never out of the file system',
    async (path) => {
      expect(Buffer.from(await fileSystem.read(path, 0, 100)).toString()).toBe('a few bytes\n');
    },
  );

  test('links to directories are followed, and are told as links', async () => {
    expect(await fileSystem.list('to many')).toHaveLength(300);
    expect((await fileSystem.stat('to many')).kind).toBe('symlink');
    expect((await fileSystem.stat('to many/file 3')).size).toBe(2);
  });

  test.each([
    ['nowhere', 'ERR_NOT_FOUND', 'No such file or directory'],
    ['short/more', 'ERR_INVALID_ARGUMENT', 'Not a directory'],
    ['many', 'ERR_INVALID_ARGUMENT', 'Is a directory'],
    ['loop', 'ERR_INVALID_ARGUMENT', 'Too many levels of symbolic links'],
  ])('%s cannot be read', async (path, code, reason) => {
    await expect(fileSystem.read(path, 0, 1)).rejects.toMatchObject({ code, details: { path, reason } });
  });

  test('a status has what the tools put there', async () => {
    const { kind, size, mode, modified } = await fileSystem.stat('deep/er/est/bytes');

    expect({ kind, size, mode }).toEqual({ kind: 'file', size: 300_000, mode: 0o100644 });
    expect(Math.abs((modified ?? 0) - Date.now())).toBeLessThan(3_600_000);
  });

  test('nothing is read behind the end of a file', async () => {
    expect(await fileSystem.read('short', 12, 10)).toHaveLength(0);
    expect(await fileSystem.read('short', 2 ** 50, 10)).toHaveLength(0);
  });
});

describe('partitions', () => {
  test('of a GPT, with their names and numbers', async () => {
    const image = join(temporaryFolder(), 'disk');
    writeFileSync(image, '');
    truncateSync(image, 64 * 2 ** 20);
    const parts = ['-n', '1:2048:+8M', '-c', '1:boot', '-t', '1:ef00', '-n', '3:0:+16M', '-c', '3:röot'];
    execFileSync('sgdisk', [...parts, image], { stdio: 'pipe' });

    const table = await readPartitions(sourceOf(new Uint8Array(readFileSync(image))));

    expect(table).toMatchObject({ kind: 'gpt', faults: [] });
    expect(table?.partitions).toMatchObject([
      { number: 1, name: 'boot', offset: 2 ** 20, length: 8 * 2 ** 20, type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b' },
      { number: 3, name: 'röot', offset: 9 * 2 ** 20, length: 16 * 2 ** 20 },
    ]);
  });

  test('of an MBR, those within an extended one too, each with its file system', async () => {
    const disk = mbrDisk();
    const inner = extImage(['-t', 'ext2']);
    const bytes = new Uint8Array(disk.length + inner.length);
    bytes.set(disk);
    bytes.set(inner, 20 * 512);
    const source = sourceOf(bytes);

    const table = await readPartitions(source);

    const places = table?.partitions.map(({ number, offset, length }) => [number, offset / 512, length / 512]);
    expect(table).toMatchObject({ kind: 'mbr', faults: [] });
    expect(places).toEqual([
      [1, 2, 4],
      [2, 8, 40_000],
      [5, 10, 2],
      [6, 20, 30_000],
    ]);
    const [, , , logical] = table?.partitions ?? [];
    const fileSystem = await openFileSystem(partitionSource(source, logical as NonNullable<typeof logical>));
    expect(await fileSystem.list('/many')).toHaveLength(300);
  });

  test('a chain of tables that comes back to itself ends', async () => {
    const disk = mbrDisk();
    entry(disk, 18 * 512, 1, 0x05, 0, 8);

    const table = await readPartitions(sourceOf(disk));

    expect(table?.faults.map(({ message }) => message)).toContain(
      'Tables of an extended partition that lead to each other',
    );
    expect(table?.partitions).toHaveLength(4);
  });

  test('a disk without a table has none', async () => {
    expect(await readPartitions(sourceOf(fatImage(4)))).toBeUndefined();
    expect(await readPartitions(sourceOf(new Uint8Array(0)))).toBeUndefined();
  });
});

/** Sectors: a table, a primary partition at 2, an extended one at 8 with tables at 8, 18 and partitions at 10, 20. */
function mbrDisk(): Uint8Array {
  const disk = new Uint8Array(40_008 * 512);
  entry(disk, 0, 0, 0x83, 2, 4);
  entry(disk, 0, 1, 0x05, 8, 40_000);
  entry(disk, 8 * 512, 0, 0x83, 2, 2);
  entry(disk, 8 * 512, 1, 0x05, 10, 30_100);
  entry(disk, 18 * 512, 0, 0x83, 2, 30_000);
  return disk;
}

function entry(disk: Uint8Array, table: number, index: number, type: number, start: number, count: number): void {
  const view = new DataView(disk.buffer, table, 512);
  view.setUint8(446 + index * 16 + 4, type);
  view.setUint32(446 + index * 16 + 8, start, true);
  view.setUint32(446 + index * 16 + 12, count, true);
  view.setUint16(510, 0xaa55, true);
}

test.each([
  ['nothing', new Uint8Array(0), /No file system was recognised/],
  ['zeros', new Uint8Array(65536), /No file system was recognised/],
  ['XFS', Buffer.concat([Buffer.from('XFSB'), Buffer.alloc(8192)]), /it is XFS/],
])('%s is refused in one line', async (_, bytes, message) => {
  await expect(openFileSystem(sourceOf(bytes))).rejects.toMatchObject({
    code: 'ERR_UNSUPPORTED',
    message: expect.stringMatching(message),
  });
});

/** Reads everything that can be found, and no more than it takes. Errors of the library are fine. */
async function readAll(bytes: Uint8Array): Promise<string> {
  const limits = { maxRead: 256 * 2 ** 20, maxEntries: 5000 };
  try {
    const fileSystem = await openFileSystem(sourceOf(bytes), { limits });
    let visited = 0;
    const walk = async (path: string, depth: number): Promise<void> => {
      for (const { name, kind } of await fileSystem.list(path)) {
        const inner = `${path}/${name}`;
        if (++visited > 600) return;
        try {
          if (kind === 'directory' && depth < 6) await walk(inner, depth + 1);
          else if (kind === 'symlink') await fileSystem.readLink(inner);
          else if (kind === 'file') await fileSystem.read(inner, 0, 400_000);
        } catch (error) {
          if (!(error as { code?: string }).code?.startsWith('ERR_')) throw error;
        }
      }
    };
    await walk('', 0);
    return 'read';
  } catch (error) {
    if ((error as { code?: string }).code?.startsWith('ERR_')) return 'refused';
    throw error;
  }
}

describe(`damaged file systems are read or refused, and nothing else, CORRAL_SEED=${SEED}`, () => {
  test.each<[string, () => Uint8Array]>([
    ['ext2', () => extImage(['-t', 'ext2', '-b', '1024', '-N', '512'], smallTree)],
    ['ext4', () => extImage(['-b', '1024', '-N', '512', '-O', 'inline_data', '-I', '256'], smallTree)],
    ['fat12', () => fatImage(2, [], smallTree)],
    ['fat32', () => fatImage(40, ['-F', '32', '-s', '1'], smallTree)],
  ])('%s', async (_, make) => {
    const random = randomFrom(SEED);
    const original = make();
    // Where the tables are: most of a file system is contents, which nobody judges.
    const tables = original.subarray(0, 400_000);
    const places = [...tables.keys()].filter((offset) => tables[offset] !== 0);
    const outcomes = new Set<string>();

    for (let round = 0; round < 40; round++) {
      const bytes = original.slice();
      const count = 1 + Math.floor(random() * 6);
      for (let change = 0; change < count; change++) {
        const offset = places[Math.floor(random() * (change === 0 ? 3000 : places.length))] as number;
        bytes[offset] = random() < 0.5 ? Math.floor(random() * 256) : (bytes[offset] as number) ^ (1 << (random() * 8));
      }
      outcomes.add(await readAll(bytes));
    }

    expect(outcomes).toContain('read');
  });
});
