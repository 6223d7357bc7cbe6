import { copyFileSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { corralHere, mustQemuImg, qemuImg } from './run-corral.js';
import { newImage } from './sample-images.js';

/** What both programs are asked, `IMAGE` being the image; some of it makes no sense. */
const LINES: readonly string[] = [
  '--add IMAGE b',
  '--add -g 4096 --disable IMAGE b',
  '--add -g 4k --disable --enable IMAGE b',
  '--add --add IMAGE b',
  '--add --remove IMAGE b',
  '--add --clear --disable --enable --clear IMAGE b',
  '--remove IMAGE first',
  '--disable IMAGE first',
  '--clear IMAGE first',
  '--merge second IMAGE first',
  '--add --merge first --merge second IMAGE b',
  '--merge first IMAGE first',
  '--remove IMAGE missing',
  '--enable IMAGE missing',
  '--merge missing IMAGE first',
  '--merge first IMAGE missing',
  '--add IMAGE first',
  '--add -g 100 IMAGE b',
  '--add -g 256 IMAGE b',
  '--add -g 4G IMAGE b',
  '--add -g many IMAGE b',
  '--disable -g 4k IMAGE first',
  '--merge extra -b OTHER IMAGE first',
  '--merge extra -b OTHER -F qcow2 IMAGE first',
  '--add --merge extra --disable -b OTHER IMAGE b',
  '--merge extra -b OTHER IMAGE missing',
  '--merge missing -b OTHER IMAGE first',
  '--merge extra -b SMALL IMAGE first',
  '--merge extra -F raw -b OTHER IMAGE first',
  '--add -b OTHER IMAGE b',
  '--merge first -F qcow2 IMAGE second',
  'IMAGE b',
  '--add IMAGE',
  '--add',
  '--add IMAGE b c',
];

function sampleImage(): string {
  const path = newImage('cluster_size=4096', '10M');
  mustQemuImg('bitmap', '--add', path, 'first');
  mustQemuImg('bitmap', '--add', '--disable', '-g', '512', path, 'second');
  return path;
}

/** Another image, of this size, with a bitmap of another granularity. */
function otherImage(size: string): string {
  const path = newImage('cluster_size=65536', size);
  mustQemuImg('bitmap', '--add', '-g', '1M', path, 'extra');
  return path;
}

/** The error without what begins with the program's name, and without QEMU's hints. */
function errorOf(stderr: string): string {
  return stderr.split('\n', 1)[0]?.replace(/^(corral|qemu-img): /, '') ?? '';
}

describe('corral bitmap does and says what qemu-img bitmap does and says', () => {
  test.each(LINES)('%s', async (line) => {
    const ours = sampleImage();
    const theirs = `${ours}.theirs`;
    copyFileSync(ours, theirs);
    const [other, small] = [otherImage('10M'), otherImage('1M')];
    const words = (path: string) =>
      line.split(' ').map((word) => ({ IMAGE: path, OTHER: other, SMALL: small })[word] ?? word);

    const found = await corralHere('bitmap', ...words(ours));
    const expected = qemuImg(['bitmap', ...words(theirs)]);

    expect(found.stdout).toBe('');
    expect(errorOf(found.stderr)).toBe(errorOf(expected.stderr));
    expect(found.status).toBe(expected.status);
    expect(bitmaps(ours)).toEqual(bitmaps(theirs));
    mustQemuImg('check', ours);
  });

  function bitmaps(path: string): unknown {
    return JSON.parse(mustQemuImg('info', '--output=json', path))['format-specific'].data.bitmaps;
  }
});

test('corral bitmap --remove-all removes what is there, inconsistent ones too, and needs no name', async () => {
  const path = sampleImage();
  const { openImage } = await import('../../host/node/index.js');
  const abandoned = await openImage(path, { write: true, lock: false });
  await abandoned.write(0, new Uint8Array(512));

  const found = await corralHere('bitmap', '--remove-all', path);

  expect(found).toMatchObject({ status: 0, stdout: '', stderr: '' });
  expect(JSON.parse(mustQemuImg('info', '--output=json', path))['format-specific'].data.bitmaps).toBeUndefined();
  mustQemuImg('check', path);
});

test('corral bitmap --remove-all comes in its place among other actions', async () => {
  const path = sampleImage();

  const found = await corralHere('bitmap', '--clear', '--remove-all', '--add', path, 'first');

  expect(found).toMatchObject({ status: 0, stderr: '' });
  expect(JSON.parse(mustQemuImg('info', '--output=json', path))['format-specific'].data.bitmaps).toHaveLength(1);
  mustQemuImg('check', path);
});

describe('corral bitmap refuses', () => {
  test('images of version 2, which nobody could see to have bitmaps', async () => {
    const path = newImage('compat=0.10');
    const before = readFileSync(path);

    const found = await corralHere('bitmap', '--add', path, 'b');

    expect(found.stderr).toMatch(/Cannot store dirty bitmaps in qcow2 v2 files/);
    expect(found.status).toBe(1);
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('a granularity that makes a bitmap larger than QEMU takes', async () => {
    const path = newImage('cluster_size=65536', '20T');

    const found = await corralHere('bitmap', '--add', '-g', '512', path, 'b');

    expect(found.stderr).toMatch(/Too much space will be occupied by the bitmap. Use larger granularity/);
    expect(found.status).toBe(1);
  });

  test('an image that somebody else has open', async () => {
    const path = newImage();
    const { openImage } = await import('../../host/node/index.js');
    await using _image = await openImage(path, { write: true });

    const found = await corralHere('bitmap', '--add', path, 'b');

    expect(found.stderr).toMatch(/Failed to get "write" lock\nIs another process using the image/);
    expect(found.status).toBe(1);
  });
});
