import { expect, test } from 'vitest';
import { Image, type InspectOptions, type InspectReport, inspect, MemoryFile } from '../../host/index.js';
import { allowedPath } from '../../host/inspect/allowed.js';
import { loadCore } from '../../host/node/index.js';

type References = NonNullable<InspectOptions['references']>;

/** What lies behind: the files of a folder, and which of them were opened. */
class Folder {
  readonly opened: string[] = [];

  constructor(private readonly files: Record<string, MemoryFile>) {}

  references(more: Partial<References> = {}): References {
    const open = async (path: string): Promise<MemoryFile> => {
      this.opened.push(path);
      const file = this.files[path];
      if (file === undefined) throw new Error('ENOENT');
      return file;
    };
    return { patterns: ['/images/**'], path: '/images/top', open, ...more };
  }

  look(path: string, more: Partial<InspectOptions> = {}): Promise<InspectReport> {
    return inspect(this.files[path] as MemoryFile, { core: loadCore(), references: this.references(), ...more });
  }
}

async function overlay(backingFile: string | undefined, backingFormat = 'qcow2'): Promise<MemoryFile> {
  const file = new MemoryFile();
  const named = backingFile === undefined ? {} : { backingFile, backingFormat };
  await Image.create(file, { core: loadCore(), virtualSize: 2 ** 20, ...named });
  return file;
}

/** A qcow2 image whose header says that it is corrupt. */
async function corruptImage(): Promise<MemoryFile> {
  const file = await overlay(undefined);
  const bytes = file.contents();
  bytes[79] = 2;
  return new MemoryFile(bytes);
}

test('a chain of allowed files is accepted, and every file of it was inspected', async () => {
  const folder = new Folder({
    '/images/top': await overlay('middle'),
    '/images/middle': await overlay('/images/deep/base'),
    '/images/deep/base': await overlay(undefined),
  });

  const report = await folder.look('/images/top');

  expect(report.verdict).toEqual({ result: 'accept', failed: [], incomplete: [] });
  expect(report.references).toMatchObject([{ followed: true, classes: [] }]);
  expect(report.chain.map(({ kind, path, report: link }) => [kind, path.text, link.verdict.result])).toEqual([
    ['backing-file', '/images/middle', 'accept'],
    ['backing-file', '/images/deep/base', 'accept'],
  ]);
  expect(folder.opened).toEqual(['/images/middle', '/images/deep/base']);
});

test('without leave nothing is opened, and the image is rejected', async () => {
  const folder = new Folder({ '/images/top': await overlay('middle'), '/images/middle': await overlay(undefined) });

  const report = await folder.look('/images/top', { references: folder.references({ patterns: ['/other/*'] }) });

  expect(report.verdict.failed).toEqual(['ref.backing-file']);
  expect(report.references).toMatchObject([{ followed: false }]);
  expect(folder.opened).toEqual([]);
});

test('what is wrong behind the image rejects it', async () => {
  const folder = new Folder({ '/images/top': await overlay('base'), '/images/base': await corruptImage() });

  const report = await folder.look('/images/top');

  expect(report.verdict).toMatchObject({ result: 'reject', failed: ['hdr.corrupt'] });
});

test('a file behind the image that is none of the told format rejects it', async () => {
  const folder = new Folder({ '/images/top': await overlay('base', 'raw'), '/images/base': await overlay(undefined) });

  const report = await folder.look('/images/top');

  expect(report.verdict.failed).toContain('format.declared-mismatch');
});

test('a file that is not there makes the inspection incomplete', async () => {
  const folder = new Folder({ '/images/top': await overlay('base') });

  const report = await folder.look('/images/top');

  expect(report.verdict).toEqual({ result: 'incomplete', failed: [], incomplete: ['inspect.read-error'] });
  expect(report.references).toMatchObject([{ followed: false }]);
});

test('two images that continue from each other are rejected', async () => {
  const folder = new Folder({ '/images/top': await overlay('other'), '/images/other': await overlay('top') });

  const report = await folder.look('/images/top');

  expect(report.verdict).toMatchObject({ result: 'reject', failed: ['ref.cycle'] });
  expect(folder.opened).toEqual(['/images/other']);
});

test('an image that continues from itself by another name is rejected', async () => {
  const [top, other] = [await overlay('other'), await overlay('top')];
  const same = (file: MemoryFile): MemoryFile => Object.assign(file, { identity: '1:2' });
  const folder = new Folder({ '/images/top': same(top), '/images/other': same(other) });

  const report = await folder.look('/images/top');

  expect(report.verdict.failed).toEqual(['ref.cycle']);
});

test('no more files are opened than may be', async () => {
  const files: Record<string, MemoryFile> = { '/images/top': await overlay('1') };
  for (let number = 1; number < 30; number++) files[`/images/${number}`] = await overlay(String(number + 1));
  const folder = new Folder(files);

  const report = await folder.look('/images/top');

  expect(report.verdict.failed).toEqual(['ref.depth']);
  expect(folder.opened).toHaveLength(16);
});

test('the bytes of all files count', async () => {
  const folder = new Folder({ '/images/top': await overlay('base'), '/images/base': await overlay(undefined) });
  const alone = await inspect(await overlay(undefined), { core: loadCore() });
  const maxRead = Number(alone.resources.bytesRead) + 1000;

  const report = await folder.look('/images/top', { limits: { maxRead } });

  expect(report.verdict).toMatchObject({ result: 'incomplete', incomplete: ['limit.read'] });
});

test('a format that is not told is not guessed', async () => {
  const bytes = (await overlay('base')).contents();
  // The extension's type becomes one that nobody knows.
  bytes.set([0x12, 0x34, 0x56, 0x78], 112);
  const folder = new Folder({ '/images/top': new MemoryFile(bytes), '/images/base': await overlay(undefined) });

  const report = await folder.look('/images/top');

  expect(report.verdict.failed).toEqual(['ref.backing-file']);
  expect(folder.opened).toEqual([]);
});

test.each([
  ['base', '/images/*', '/images/base'],
  ['./a/../base', '/images/*', '/images/base'],
  ['/images/base', '/images/bas?', '/images/base'],
  ['sub/base', '/images/*', undefined],
  ['sub/base', '/images/**', '/images/sub/base'],
  ['sub/base', '/images/**/base', '/images/sub/base'],
  ['../etc/passwd', '/images/**', undefined],
  ['/images/../etc/passwd', '/images/**', undefined],
  ['/imagesX/base', '/images?/base', '/imagesX/base'],
  ['/images/a.b', '/images/a+b', undefined],
  ['file:/images/base', '/images/**', undefined],
  ['json:{"file.filename":"/images/base"}', '/**', undefined],
  ['ba\nse', '/images/**', undefined],
  ['', '/**', undefined],
])('of %j the pattern %s allows %s', (name, pattern, expected) => {
  const allowed = { patterns: [pattern], path: '/images/top' };

  expect(allowedPath('backing-file', new TextEncoder().encode(name), allowed)).toBe(expected);
});

test('a data file is allowed by an absolute name only: QEMU reads others from where it was started', () => {
  const allowed = { patterns: ['/**'], path: '/images/top' };

  expect(allowedPath('data-file', new TextEncoder().encode('data'), allowed)).toBeUndefined();
  expect(allowedPath('data-file', new TextEncoder().encode('/images/data'), allowed)).toBe('/images/data');
});

test('bytes that are no UTF-8 are no allowed name', () => {
  const allowed = { patterns: ['/**'], path: '/images/top' };

  expect(allowedPath('backing-file', Uint8Array.from([0x61, 0xff]), allowed)).toBeUndefined();
});
