import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { schemaFaults } from '../json-schema.js';
import { below, chooseSeed, randomFrom } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, MAIN, mustQemuImg, type Outcome, qemuIo } from './run-corral.js';
import { newImage, writtenImage } from './sample-images.js';
import { KEY, type UntrustedImage, untrustedImages } from './untrusted-images.js';

const SCHEMA = JSON.parse(readFileSync(join(import.meta.dirname, '../../host/inspect/report.schema.json'), 'utf8'));

let corpus: UntrustedImage[];

beforeAll(() => {
  corpus = untrustedImages();
}, 120_000);

/** The image of the corpus with this name, as a file. */
function corpusFile(name: string): string {
  const path = join(temporaryFolder(), 'image');
  writeFileSync(path, (corpus.find((image) => image.name === name) as UntrustedImage).bytes);
  return path;
}

/** In this process: what the sandbox does has tests of its own. */
function inspectHere(...args: string[]): Promise<Outcome> {
  return corralHere('inspect', '--sandbox=wasm', ...args);
}

describe('the exit status', () => {
  test('is 0 for a good image', async () => {
    const { status, stdout, stderr } = await inspectHere(writtenImage());

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain(': accept (policy upload, depth tables)');
  });

  test('is 2 for an image that the policy rejects, and the finding is told', async () => {
    const path = corpusFile('a backing file: an absolute path');

    const { status, stdout } = await inspectHere(path);

    expect(status).toBe(2);
    expect(stdout).toMatch(/^high +ref\.name-absolute: .*\(at byte 2048, length 11\)$/m);
    expect(stdout).toContain('backing-file: "/etc/passwd", format "raw" (not opened)');
  });

  test('is 3 when a limit ends the inspection', async () => {
    const { status, stdout } = await inspectHere('--max-read', '1k', writtenImage());

    expect(status).toBe(3);
    expect(stdout).toMatch(/^incomplete +limit\.read/m);
  });

  test('is 1 when there is no such file', async () => {
    const { status, stdout, stderr } = await inspectHere(join(temporaryFolder(), 'nothing'));

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^corral: Could not open .*No such file or directory\n$/);
  });

  test.each([
    [['--policy', '/nowhere/policy.json']],
    [['--depth', 'deep']],
    [['--declared', 'qcow3']],
    [['--fail-on', 'never']],
    [['--max-read', 'much']],
    [['--output', 'xml']],
  ])('is 1 for options without sense: %s', async (options) => {
    const { status, stdout, stderr } = await inspectHere(...options, writtenImage());

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).not.toBe('');
  });

  test('is all that -q leaves', async () => {
    const outcome = await inspectHere('-q', corpusFile('the corrupt bit'));

    expect(outcome).toEqual({ status: 2, stdout: '', stderr: '' });
  });
});

test('--fail-on moves the border between accepted and rejected', async () => {
  const path = corpusFile('the dirty bit');

  expect((await inspectHere(path)).status).toBe(0);
  expect((await inspectHere('--fail-on', 'medium', path)).status).toBe(2);
});

test('a policy may be a file', async () => {
  const policy = join(temporaryFolder(), 'policy.json');
  writeFileSync(policy, '{"base":"upload","name":"ours","severities":{"hdr.dirty":"critical"}}');

  const { status, stdout } = await inspectHere('--policy', policy, corpusFile('the dirty bit'));

  expect(status).toBe(2);
  expect(stdout).toContain('policy ours');
});

test('--report writes the JSON to a new file, and never over another one', async () => {
  const path = join(temporaryFolder(), 'report.json');
  const image = writtenImage();

  const first = await inspectHere('-q', '--report', path, image);
  const second = await inspectHere('--report', path, image);

  expect(first.status).toBe(0);
  expect(schemaFaults(SCHEMA, JSON.parse(readFileSync(path, 'utf8')))).toEqual([]);
  expect(second).toMatchObject({ status: 1, stdout: '' });
});

test('what a terminal gets is printable', async () => {
  const paths = ['a backing file: escape codes', 'a snapshot with escape codes in its name'].map(corpusFile);

  for (const path of paths) {
    for (const kind of ['human', 'json', 'sarif']) {
      const { stdout } = await inspectHere('--output', kind, path);
      expect(stdout).toMatch(/^[ -~\n]+$/);
    }
  }
});

test('every report of the corpus is as the schema says', async () => {
  const faults: string[] = [];

  for (const { name, bytes } of corpus) {
    const path = join(temporaryFolder(), 'image');
    writeFileSync(path, bytes);
    const { stdout } = await inspectHere('--output=json', '--depth=full', '--policy=forensic', path);
    faults.push(...schemaFaults(SCHEMA, JSON.parse(stdout)).map((fault) => `${name}: ${fault}`));
  }

  expect(faults).toEqual([]);
});

test('the schema refuses reports that lack something or have something else', () => {
  const report = { schema: 'corral-inspect', version: 2, more: true };

  const faults = schemaFaults(SCHEMA, report);

  expect(faults).toContain('$ lacks checks');
  expect(faults).toContain('$.version is 2');
  expect(faults).toContain('$ has more');
});

test('SARIF has a result with its place for every finding', async () => {
  const { stdout } = await inspectHere('--output=sarif', corpusFile('a backing file: an absolute path'));

  const { version, runs } = JSON.parse(stdout);
  expect(version).toBe('2.1.0');
  expect(runs[0].results).toHaveLength(2);
  expect(runs[0].results[1]).toMatchObject({
    ruleId: 'ref.name-absolute',
    level: 'error',
    locations: [{ physicalLocation: { region: { byteOffset: 2048, byteLength: 11 } } }],
  });
  const rules = runs[0].tool.driver.rules.map(({ id }: { id: string }) => id);
  expect(rules).toContain('ref.name-absolute');
});

describe('standard input', () => {
  function piped(bytes: Buffer, ...options: string[]): Outcome {
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'inspect', ...options, '-'], {
      input: bytes,
    });
    return { status, stdout: stdout.toString(), stderr: stderr.toString() };
  }

  test('is inspected at depth header, with the verdict of a file', async () => {
    for (const { name, bytes } of corpus
      .filter(({ rule }) => /^(ref|crypt|snap)\.|hdr.reftable/.test(rule))
      .slice(0, 8)) {
      const path = join(temporaryFolder(), 'image');
      writeFileSync(path, bytes);
      const there = await inspectHere('--depth=header', '--output=json', path);

      const here = piped(bytes, '--output=json');

      expect(here.status, name).toBe(there.status);
      expect(JSON.parse(here.stdout).checks, name).toEqual(JSON.parse(there.stdout).checks);
    }
  });

  test('is held where the header says that something is', () => {
    const image = newImage('cluster_size=64k', '100M');
    qemuIo(image, 'write -P 1 0 20M');
    mustQemuImg('snapshot', '-c', 'far away', image);
    mustQemuImg('bitmap', '--add', image, 'farther');

    const { status, stdout } = piped(readFileSync(image), '--output=json');

    const { snapshots, bitmapCount, options } = JSON.parse(stdout);
    expect({ status, bitmapCount, depth: options.depth }).toEqual({ status: 0, bitmapCount: 1, depth: 'header' });
    expect(snapshots[0].name.text).toBe('far away');
  });

  test('has nothing but its header to be inspected', () => {
    const { status, stdout, stderr } = piped(Buffer.alloc(100), '--depth=tables');

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/only the header/);
  });
});

describe('images that qemu-img makes', () => {
  const seed = chooseSeed();

  test(`are accepted, with 200 random option sets, CORRAL_SEED=${seed}`, async () => {
    const random = randomFrom(seed);
    const complaints: string[] = [];

    for (let round = 0; round < 200; round++) {
      // qemu-img measures for a second how fast keys are made for LUKS: four images have to do.
      const options = drawOptions(random, round % 50 === 7 ? 'luks' : round % 8 === 0 ? 'aes' : undefined);
      // qemu-img takes minutes to preallocate millions of clusters.
      const mapped = options.some((option) => /^preallocation=metadata|^data_file_raw/.test(option));
      const sizes = mapped ? [1, 3, 20] : [1, 3, 64, 5000];
      const path = join(temporaryFolder(), 'image.qcow2');
      mustQemuImg('create', '-q', ...KEY, '-f', 'qcow2', '-o', options.join(','), path, `${pick(random, sizes)}M`);
      const encrypted = options.some((option) => option.startsWith('encrypt.'));
      if (!encrypted && random() < 0.5) qemuIo(path, 'write -P 1 0 100k', 'write -P 2 900k 64k');
      if (random() < 0.3 && !options.some((option) => /^(data_file|encrypt)|^refcount_bits=1$/.test(option))) {
        mustQemuImg('snapshot', '-c', 'one', path);
      }
      for (const policy of ['forensic', 'upload']) {
        const { status, stdout } = await inspectHere('--policy', policy, '--depth=full', path);
        const refers = options.some((option) => /^(data_file|backing_file)=/.test(option));
        const wanted = policy === 'upload' && (refers || encrypted) ? 2 : 0;
        if (status !== wanted) complaints.push(`${policy} ${options.join(',')}: ${status}\n${stdout}`);
      }
      rmSync(path);
    }

    expect(complaints).toEqual([]);
  }, 240_000);
});

function drawOptions(random: () => number, encryption?: string): string[] {
  const folder = temporaryFolder();
  const extended = random() < 0.25;
  const old = !extended && random() < 0.2;
  const cluster = pick(random, extended ? [16, 32, 64, 2048] : [0.5, 1, 4, 64, 256, 2048]) * 1024;
  const options = [`cluster_size=${cluster}`, `compat=${old ? '0.10' : '1.1'}`];
  if (extended) options.push('extended_l2=on');
  if (!old) {
    options.push(`refcount_bits=${pick(random, [1, 2, 4, 8, 16, 32, 64])}`);
    if (random() < 0.3) options.push('lazy_refcounts=on');
    if (random() < 0.3) options.push('compression_type=zstd');
  }
  const kind = random();
  if (!old && kind < 0.15) {
    options.push(`data_file=${join(folder, 'data.raw')}`);
    if (random() < 0.5) options.push('data_file_raw=on');
  } else if (kind < 0.3) {
    const base = join(folder, 'base.raw');
    writeFileSync(base, Buffer.alloc(1048576, 7));
    options.push(`backing_file=${base}`, 'backing_fmt=raw');
  } else if (random() < 0.4) {
    options.push(`preallocation=${cluster < 4096 ? 'off' : 'metadata'}`);
  }
  if (encryption !== undefined) options.push(`encrypt.format=${encryption}`, 'encrypt.key-secret=key');
  if (encryption === 'luks') options.push('encrypt.iter-time=10');
  return options;
}

function pick<T>(random: () => number, values: readonly T[]): T {
  return values[below(random, values.length)] as T;
}
