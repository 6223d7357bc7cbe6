import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { CorralError, Image, MemoryFile, type OpenOptions } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { chooseSeed } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';
import {
  type HostileImage,
  imageWithSnapshot,
  randomImages,
  truncated,
  validImage,
  wrongExtensions,
  wrongFields,
  wrongTables,
} from './hostile-images.js';
import { corralHere, MAIN, type Outcome } from './run-corral.js';

const MIB = 1024 * 1024;
/** Milliseconds after which something hangs. */
const PATIENCE = 5000;
const SEED = chooseSeed();

let version2: Buffer;
let version3: Buffer;
let snapshot: Buffer;

beforeAll(() => {
  version2 = validImage('0.10');
  version3 = validImage('1.1');
  snapshot = imageWithSnapshot();
});

/** Kinds of wrong images; made when the tests run, since they need the valid ones. */
const KINDS: Record<string, () => HostileImage[]> = {
  'the unharmed images': () => [
    { name: 'version 2', bytes: version2 },
    { name: 'version 3', bytes: version3 },
    { name: 'with a snapshot', bytes: snapshot },
  ],
  'version 3 cut off': () => truncated(version3),
  'version 2 cut off': () => truncated(version2),
  'a snapshot cut off': () => truncated(snapshot),
  'wrong fields in version 3': () => wrongFields(version3),
  'wrong fields in version 2': () => wrongFields(version2),
  'wrong fields beside a snapshot': () => wrongFields(snapshot),
  'wrong header extensions': () => wrongExtensions(version3),
  'wrong tables': () => wrongTables(version3),
  'wrong tables beside a snapshot': () => wrongTables(snapshot),
  'random bytes': () => [...randomImages(version3, SEED, 300), ...randomImages(snapshot, SEED + 1, 100)],
};

describe('corral info prints the facts or one line', () => {
  test.each(Object.entries(KINDS))('about %s', async (_, make) => {
    const path = join(temporaryFolder(), 'hostile.qcow2');
    const complaints: string[] = [];

    for (const { name, bytes } of make()) {
      writeFileSync(path, bytes);
      for (const args of [[], ['--output=json'], ['-f', 'qcow2']]) {
        const outcome = await inTime(corralHere('info', ...args, path));
        const complaint = outcome === undefined ? 'hangs' : judge(outcome);
        if (complaint !== undefined) complaints.push(`${name}: corral info ${args.join(' ')} ${complaint}`);
      }
    }

    expect(complaints).toEqual([]);
  });
});

/** What is wrong with how a command ended; undefined when it ended well. */
function judge({ status, stdout, stderr }: Outcome): string | undefined {
  if (status === 0) return stderr === '' && stdout !== '' ? undefined : `says '${stderr}' and succeeds`;
  if (status !== 1 || stdout !== '') return `ends with ${status} after '${stdout}'`;
  if (!/^corral: [^\n]+\n$/.test(stderr)) return `says '${stderr}'`;
  return /internal|unreachable|runtime|wasm|undefined|NaN|out of bounds/i.test(stderr) ? `says '${stderr}'` : undefined;
}

describe('the library opens, or refuses with a CorralError,', () => {
  test.each(Object.entries(KINDS))('%s', async (_, make) => {
    const complaints: string[] = [];

    for (const { name, bytes } of make()) {
      for (const [verb, use] of Object.entries(USES)) {
        const complaint = await complaintOf(use, bytes);
        if (complaint !== undefined) complaints.push(`${name}: ${verb}: ${complaint}`);
      }
    }

    expect(complaints).toEqual([]);
  });
});

type Use = (bytes: Buffer) => Promise<void>;

/** Everything that can be done with an image, in short. */
const USES: Record<string, Use> = {
  inspecting: async (bytes) => {
    const image = await open(bytes, { inspect: true });
    await image.close();
  },
  reading: async (bytes) => {
    const image = await open(bytes, {});
    await tolerant(() => readEnds(image));
    await tolerant(() => mapSome(image));
    await image.close();
  },
  writing: async (bytes) => {
    const image = await open(bytes, { write: true });
    await tolerant(() => writeEnds(image));
    await tolerant(() => image.flush());
    await tolerant(() => readEnds(image));
    await image.close();
  },
  checking: async (bytes) => {
    const image = await open(bytes, { tablesOnly: true, checkSize: 65536 });
    await tolerant(() => image.check());
    await image.close();
  },
};

function open(bytes: Buffer, options: Partial<OpenOptions>): Promise<Image> {
  const file = new MemoryFile(Uint8Array.from(bytes), options.write !== true);
  return Image.open(file, { core: loadCore(), requestCapacity: 4, cacheSize: 65536, ...options });
}

/** An image may turn out to be wrong later; that must not stop what comes next. */
async function tolerant(action: () => Promise<unknown>): Promise<void> {
  await action().catch((error: unknown) => {
    if (!isExpected(error)) throw error;
  });
}

function isExpected(error: unknown): boolean {
  return error instanceof CorralError && error.code !== 'ERR_INTERNAL';
}

async function complaintOf(use: Use, bytes: Buffer): Promise<string | undefined> {
  const ended = await inTime(
    use(bytes).then(
      () => 'well' as const,
      (error: unknown) => (isExpected(error) ? ('well' as const) : `${error}`),
    ),
  );
  if (ended === undefined) return 'hangs';
  return ended === 'well' ? undefined : ended;
}

/** The first and the last 4 MiB of the disk. */
async function readEnds(image: Image): Promise<void> {
  const length = Math.min(image.size, 4 * MIB);
  await tolerant(() => image.read(0, new Uint8Array(length)));
  await tolerant(() => image.read(image.size - length, new Uint8Array(length)));
}

async function writeEnds(image: Image): Promise<void> {
  const length = Math.min(image.size, 3000);
  for (const offset of [0, Math.min(100_000, image.size - length), image.size - length]) {
    await tolerant(() => image.write(offset, new Uint8Array(length).fill(0x5a)));
  }
}

async function mapSome(image: Image): Promise<void> {
  let count = 0;
  for await (const extent of image.map({ length: Math.min(image.size, 64 * MIB) })) {
    expect(extent.length).toBeGreaterThan(0);
    if (++count === 1000) break;
  }
}

function inTime<T>(promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

describe('corral info needs at most a second and 64 MiB', () => {
  const EXPENSIVE = [
    'version 3',
    'l1_size is 2147483648',
    'l1_size is 4194304',
    'nb_snapshots is 2147483648',
    'nb_snapshots is 65536',
    'cluster_bits is 21',
    'cluster_bits is 4294967295',
    'size is 2305843009213693952',
    'header_length is 4294967295',
    'header_length is 4096',
    'refcount_table_clusters is 2048',
    'refcount_table_clusters is 4294967295',
    'refcount_order is 7',
    'backing_file_size is 4294967295',
    'the backing name at 112 has 4294967295 bytes',
    'the feature name table has 4294967295 bytes',
    'the feature name table has 3968 bytes',
    'cut off after 512 bytes',
  ];

  test.each(EXPENSIVE)('when %s', (name) => {
    const all = [...wrongFields(version3), ...wrongExtensions(version3), ...truncated(version3)];
    const image = [{ name: 'version 3', bytes: version3 }, ...all].find((candidate) => candidate.name === name);
    const path = join(temporaryFolder(), 'hostile.qcow2');
    writeFileSync(path, image?.bytes ?? '');

    const first = measure(path);
    // A machine that is busy with something else gets another chance.
    const best = first.milliseconds < 1000 ? first : [measure(path), measure(path), first].sort(byTime)[0];

    expect(image).toBeDefined();
    expect(judge(first.outcome)).toBeUndefined();
    expect(best?.milliseconds).toBeLessThan(1000);
    expect(first.kibibytes).toBeGreaterThan(10_000);
    expect(first.kibibytes).toBeLessThan(64 * 1024);
  });
});

interface Measured {
  outcome: Outcome;
  milliseconds: number;
  /** The process's largest resident set. */
  kibibytes: number;
}

const byTime = (first: Measured, second: Measured): number => first.milliseconds - second.milliseconds;

/**
 * The real command. The process itself writes its peak to a pipe of its own: what the system tells its parent counts the
 * parent's memory too, from before the process became another program.
 */
function measure(path: string): Measured {
  const report = `import { readFileSync, writeSync } from 'node:fs';
    process.on('exit', () => writeSync(3, /VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status'))[1]));`;
  const preload = ['--import', `data:text/javascript,${encodeURIComponent(report)}`];
  const started = performance.now();
  const child = spawnSync(process.execPath, [...preload, MAIN, 'info', path], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    encoding: 'utf8',
    timeout: 10_000,
  });
  return {
    outcome: { status: child.status, stdout: child.stdout, stderr: child.stderr },
    milliseconds: performance.now() - started,
    kibibytes: Number(child.output[3]),
  };
}
