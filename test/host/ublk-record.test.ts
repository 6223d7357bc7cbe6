/** What a server leaves for the one after it. */
import { chmod, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkOptions } from '../../host/node/ublk-options.js';
import { newMark, readRecord, removeRecord, writeRecord } from '../../host/node/ublk-record.js';
import { temporaryFolder } from '../temporary-folder.js';

let before: string | undefined;
let run: string;

beforeEach(() => {
  before = process.env.CORRAL_RUN_DIR;
  run = join(temporaryFolder(), 'run');
  process.env.CORRAL_RUN_DIR = run;
});
afterEach(() => {
  if (before === undefined) delete process.env.CORRAL_RUN_DIR;
  else process.env.CORRAL_RUN_DIR = before;
});

test('image, options and folder come back, and nobody else can read them', async () => {
  const options = checkOptions({ readOnly: true, cacheSize: 65536, mayOpen: ['/a'], recovery: 'reissue' });
  const mark = newMark();

  await writeRecord(3, mark, 'some.qcow2', options);

  const record = await readRecord(3, mark);
  expect(record).toMatchObject({ mark, image: resolve('some.qcow2'), folder: process.cwd() });
  expect(checkOptions(record.options)).toEqual(options);
  expect((await stat(join(run, 'ublkb3.json'))).mode & 0o777).toBe(0o600);
  expect((await stat(run)).mode & 0o777).toBe(0o700);
});

test('the record of another device of the same number is not this one’s', async () => {
  await writeRecord(3, 17, 'some.qcow2', checkOptions({}));

  await expect(readRecord(3, 18)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  await expect(readRecord(4, 17)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
});

test.each(['', '{', '[]', 'null', '{"version":1}', '{"version":2,"mark":17,"image":"/a","folder":"/","options":{}}'])(
  'a record that says %j is none',
  async (text) => {
    await mkdir(run, { mode: 0o700 });
    await writeFile(join(run, 'ublkb3.json'), text, { mode: 0o600 });

    await expect(readRecord(3, 17)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  },
);

test('a record that others could have written is not believed', async () => {
  await writeRecord(3, 17, 'some.qcow2', checkOptions({}));
  await chmod(join(run, 'ublkb3.json'), 0o622);
  await expect(readRecord(3, 17)).rejects.toMatchObject({ code: 'ERR_PERMISSION' });

  await chmod(join(run, 'ublkb3.json'), 0o600);
  await chmod(run, 0o777);
  await expect(readRecord(3, 17)).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
  await expect(writeRecord(4, 17, 'some.qcow2', checkOptions({}))).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
});

test('a link in the place of a record is not followed', async () => {
  await writeRecord(3, 17, 'some.qcow2', checkOptions({}));
  await symlink(join(run, 'ublkb3.json'), join(run, 'ublkb5.json'));

  await expect(readRecord(5, 17)).rejects.toThrow();
  expect(await readFile(join(run, 'ublkb5.json'), 'utf8')).toContain('some.qcow2');
});

test('a record goes away with its device', async () => {
  await writeRecord(3, 17, 'some.qcow2', checkOptions({}));

  await removeRecord(3);
  await removeRecord(3);

  await expect(readRecord(3, 17)).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
});

test('marks differ, and are numbers that the driver gives back as they are', () => {
  const marks = new Set(Array.from({ length: 1000 }, newMark));

  expect(marks.size).toBe(1000);
  for (const mark of marks) expect(Number.isSafeInteger(mark) && mark > 0).toBe(true);
});
