import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, corralHere, mustQemuImg, qemuImg } from './run-corral.js';
import { newImage, writtenImage } from './sample-images.js';

const CLUSTER = 65536;
const COPIED = 1n << 63n;
const OFFSET_MASK = 0x00fffffffffffe00n;

/** The tables of an image with one L2 table and one refcount block. */
class Tables {
  readonly bytes: Buffer;
  readonly l2: number;
  readonly refcountBlock: number;

  constructor(readonly path: string) {
    this.bytes = readFileSync(path);
    this.l2 = this.offset(this.offset(40));
    this.refcountBlock = this.offset(this.offset(48));
  }

  private offset(at: number): number {
    return Number(this.bytes.readBigUInt64BE(at) & OFFSET_MASK);
  }

  /** Drops the mapping of the 5 MiB mark: its cluster is a leak. */
  leak(): this {
    this.bytes.writeBigUInt64BE(0n, this.l2 + ((5 << 20) / CLUSTER) * 8);
    return this;
  }

  /** The disk's first cluster is in use, and counted as free. */
  corrupt(): this {
    const first = this.offset(this.l2);
    this.bytes.writeUInt16BE(0, this.refcountBlock + (first / CLUSTER) * 2);
    return this;
  }

  /** The entry of the disk's first cluster lacks its flag. */
  loseFlag(): this {
    this.bytes.writeBigUInt64BE(this.bytes.readBigUInt64BE(this.l2) ^ COPIED, this.l2);
    return this;
  }

  /** The disk's first cluster lies far beyond the end of the file. */
  pointOutside(): this {
    this.bytes.writeBigUInt64BE(COPIED | (1n << 40n), this.l2);
    return this;
  }

  save(): string {
    writeFileSync(this.path, this.bytes);
    return this.path;
  }
}

const KINDS: Record<string, { make: () => string; status: number }> = {
  'a new image': { make: () => newImage(), status: 0 },
  'an empty disk': { make: () => newImage('compat=1.1', '0'), status: 0 },
  'a written image': { make: () => writtenImage(), status: 0 },
  'a written version 2 image': { make: () => writtenImage('compat=0.10'), status: 0 },
  'small clusters': { make: () => writtenImage('cluster_size=512'), status: 0 },
  'compressed clusters': { make: compressed, status: 0 },
  'a leaked cluster': { make: () => new Tables(writtenImage()).leak().save(), status: 3 },
  'a cluster in use that is counted as free': { make: () => new Tables(writtenImage()).corrupt().save(), status: 2 },
  both: { make: () => new Tables(writtenImage()).leak().corrupt().save(), status: 2 },
  'a mapping beyond the end of the file': { make: () => new Tables(writtenImage()).pointOutside().save(), status: 2 },
};

function compressed(): string {
  const path = writtenImage();
  mustQemuImg('convert', '-c', '-O', 'qcow2', path, `${path}.compressed`);
  return `${path}.compressed`;
}

describe('corral check counts and says what qemu-img check does', () => {
  test.each(Object.entries(KINDS))('about %s', async (_, { make, status }) => {
    const path = make();

    const human = await corralHere('check', path);
    const json = await corralHere('check', '--output', 'json', path);

    expect(human.status).toBe(status);
    expect(json.status).toBe(status);
    expect(human.stdout).toBe(qemuImg(['check', path]).stdout);
    expect(JSON.parse(json.stdout)).toEqual(JSON.parse(qemuImg(['check', '--output=json', path]).stdout));
    expect(human.stderr === '').toBe(status === 0);
  });

  test('and names the clusters in the same words', async () => {
    const path = new Tables(writtenImage()).leak().corrupt().save();

    const { stderr } = await corralHere('check', path);

    const inQemu = qemuImg(['check', path]).stderr.split('\n');
    expect(inQemu).toEqual(expect.arrayContaining(stderr.split('\n').filter((line) => !line.includes('OFLAG_COPIED'))));
    expect(stderr).toMatch(/^ERROR cluster \d+ refcount=0 reference=1$/m);
    expect(stderr).toMatch(/^Leaked cluster \d+ refcount=1 reference=0$/m);
  });
});

describe('corral check', () => {
  test('changes nothing, not even the time of an image', () => {
    const path = new Tables(writtenImage()).leak().corrupt().save();
    const before = readFileSync(path);

    const { status } = corral(['check', path]);

    expect(status).toBe(2);
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('takes leaks or all to repair, nothing else', async () => {
    const { status, stderr } = await corralHere('check', '-r', 'some', writtenImage());

    expect(status).toBe(1);
    expect(stderr).toMatch(/expects 'leaks' or 'all'/);
  });

  test('of a file in no format that can be checked ends with 63', async () => {
    const path = join(temporaryFolder(), 'disk.raw');
    writeFileSync(path, 'no image at all');

    const { status, stdout, stderr } = await corralHere('check', path);

    expect({ status, stdout, stderr }).toEqual({
      status: qemuImg(['check', path]).status,
      stdout: '',
      stderr: 'corral: This image format does not support checks\n',
    });
  });

  test('of a missing file ends with 1', async () => {
    const { status, stderr } = await corralHere('check', '/nowhere/at/all');

    expect(status).toBe(1);
    expect(stderr).toBe(
      "corral: Could not open '/nowhere/at/all': Could not open '/nowhere/at/all': No such file or directory\n",
    );
  });
});

describe('corral check -r repairs as qemu-img check -r does', () => {
  const REPAIRS: Record<string, () => Tables> = {
    'a sound image': () => new Tables(writtenImage()),
    'a leaked cluster': () => new Tables(writtenImage()).leak(),
    'a wrong flag': () => new Tables(writtenImage()).loseFlag(),
    'a leaked cluster and a wrong flag': () => new Tables(writtenImage()).leak().loseFlag(),
  };
  const cases = Object.entries(REPAIRS).flatMap(([name, make]) =>
    ['leaks', 'all'].flatMap((kind) => ['human', 'json'].map((output) => ({ name, make, kind, output }))),
  );

  test.each(cases)('$name, with $kind, output $output', async ({ make, kind, output }) => {
    const path = make().save();
    const theirs = `${path}.theirs`;
    copyFileSync(path, theirs);
    const options = ['-r', kind, `--output=${output}`];

    const { status, stdout, stderr } = await corralHere('check', ...options, path);

    const expected = qemuImg(['check', ...options, theirs]);
    expect(status).toBe(expected.status);
    expect(stderr).toBe(expected.stderr);
    expect(stdout).toBe(expected.stdout.replaceAll(theirs, path));
    expect(qemuImg(['check', path]).status).toBe(0);
  });

  test('refcounts that lack are no matter of leaks: nothing is changed', async () => {
    const path = new Tables(writtenImage()).leak().corrupt().save();
    const before = readFileSync(path);

    const { status, stderr } = await corralHere('check', '-r', 'leaks', path);

    expect(readFileSync(path).equals(before)).toBe(true);
    expect(status).toBe(qemuImg(['check', '-r', 'leaks', path]).status);
    expect(stderr).toMatch(/^ERROR need to rebuild refcount structures$/m);
  });

  test('refcounts that lack are put right by -r all', async () => {
    const path = new Tables(writtenImage()).leak().corrupt().save();

    const { status, stdout, stderr } = await corralHere('check', '-r', 'all', path);

    expect(status).toBe(0);
    expect(stdout).toMatch(/^The following inconsistencies were found and repaired:\n\n {4}1 leaked clusters\n/);
    expect(stderr).toMatch(/^Repairing cluster \d+ refcount=0 reference=1$/m);
    expect(qemuImg(['check', path]).status).toBe(0);
  });

  test('what a damaged entry may still name is left alone, and said so', async () => {
    const path = new Tables(writtenImage()).pointOutside().save();

    const { status, stderr } = await corralHere('check', '-r', 'all', path);

    expect(status).toBe(2);
    expect(stderr).toMatch(/^Leaked clusters were left alone/m);
  });
});
