/**
 * The engine next to QEMU where it matters how large an image is and how its clusters lie, in one run.
 *
 *   node test/bench/engine.mjs [ROUNDS]
 *
 * The images have real tables and sparse data (engine-image.mjs). "fragmented": no two neighbours of the disk are
 * neighbours in the file, and every second host cluster is free. Ratios above 1 are in favour of Corral.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CLUSTER, makeEngineImage, STRIDE } from './engine-image.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const CACHE = join(HERE, '../../.cache');
const GIB = 2 ** 30;
const BLOCK = 4096;
const READS = 300_000;
/** Blocks; without a common divisor with their number. qemu-img takes steps below 2 GiB only. */
const READ_STEP = 324_011;
const CLUSTERS = (16 * GIB) / CLUSTER;
const WRITES = CLUSTERS / STRIDE;
/** In place the same clusters are written again and again, as qemu-img begins anew at the end of the disk. */
const TURNS = 16;
/** So large that 1 % is enough for some tenths of a second; the rounds are short, and differences of a fifth count. */
const LEVEL_SIZE = 64 * GIB;
const LEVEL_ROUNDS = 5;
/** Where to begin to write, in clusters: see STRIDE. */
const ALLOCATED = 0;
const FREE = 1;
/** Runs `qemu-img check`, and tells the most memory that it was seen to have. */
const CHECK_SCRIPT = `
  qemu-img check -q "$1" &
  while seen=$(grep -s VmHWM /proc/$!/status); do last=$seen; sleep 0.01; done
  echo "$last"`;
/** GNU time tells it of processes that are too short to be watched. */
const PEAK_SCRIPT = 'command time -f %M "$@" 2>&1 >/dev/null';
const rounds = Number(process.argv[2] ?? 3);

mkdirSync(CACHE, { recursive: true });
const folder = mkdtempSync(join(CACHE, 'bench-'));
const original = join(folder, 'original.qcow2');
const image = join(folder, 'image.qcow2');
try {
  console.log('16 GiB, 64 KiB clusters, half of the disk allocated, fragmented');
  makeEngineImage(original, { virtualSize: 16 * GIB, allocated: CLUSTERS / 2, gaps: true });
  compare('4 KiB reads, depth 1, us', corralRead, qemuRead);
  compare(
    '4 KiB writes in place, depth 1, us',
    () => corralWrite(ALLOCATED, TURNS * WRITES),
    () => qemuWrite(ALLOCATED, TURNS * WRITES),
  );
  compare(
    '4 KiB writes that allocate, depth 1, us',
    () => corralWrite(FREE),
    () => qemuWrite(FREE),
  );
  compare('snapshot create, ms', () => corralLibrary('snapshot').milliseconds, qemuSnapshot);
  compare(
    'check, ms',
    () => corralLibrary('check').milliseconds,
    () => qemuCheck().milliseconds,
  );

  console.log('1 TiB, 64 KiB clusters, 64 GiB allocated, scattered');
  makeEngineImage(original, { virtualSize: 1024 * GIB, allocated: (64 * GIB) / CLUSTER });
  compareCheck();

  console.log('64 GiB, 64 KiB clusters: what allocating a cluster costs as the disk fills, us (4 KiB writes, depth 1)');
  compareLevels([1, 50, 99]);
} finally {
  rmSync(folder, { recursive: true });
}

/**
 * Both in turn, each on a fresh copy; prints the middle ones and the middle ratio.
 *
 * @param {string} name
 * @param {() => number} corral
 * @param {() => number} qemu
 */
function compare(name, corral, qemu) {
  const runs = Array.from({ length: rounds }, () => ({ corral: onCopy(corral), qemu: onCopy(qemu) }));
  const ours = median(runs.map((run) => run.corral));
  const theirs = median(runs.map((run) => run.qemu));
  const ratio = median(runs.map((run) => run.qemu / run.corral));
  printRow(name, ours, theirs, ratio);
}

/**
 * How long a check takes, and the most memory of its process. One of Node is larger than one of C before it does anything:
 * what the check adds to an empty process is the engine's.
 */
function compareCheck() {
  const runs = Array.from({ length: rounds }, () => {
    const corral = onCopy(() => corralLibrary('check'));
    const qemu = onCopy(qemuCheck);
    const node = peakMiB([process.execPath, '-e', '0']);
    const version = peakMiB(['qemu-img', '--version']);
    return { time: [corral, qemu].map(({ milliseconds }) => milliseconds), node, version, corral, qemu };
  });
  const [ours, theirs] = [0, 1].map((side) => median(runs.map(({ time }) => time[side] ?? Number.NaN)));
  printRow('check, ms', ours, theirs, median(runs.map(({ time: [mine = 1, other = 1] }) => other / mine)));
  const corral = median(runs.map((run) => run.corral.peakMiB));
  const qemu = median(runs.map((run) => run.qemu.peakMiB));
  const node = median(runs.map((run) => run.node));
  const version = median(runs.map((run) => run.version));
  printRow('check, peak MiB of the process', corral, qemu, qemu / corral);
  printRow('an empty process (node -e 0, --version)', node, version, version / node);
  printRow('what the check adds, MiB', corral - node, qemu - version, (qemu - version) / (corral - node));
}

/**
 * The levels take turns, so that none of them always comes first; the last line is how far apart their middle ones are.
 *
 * @param {number[]} levels percent of the disk that is allocated
 */
function compareLevels(levels) {
  const clusters = LEVEL_SIZE / CLUSTER;
  const count = clusters / STRIDE;
  const images = levels.map((percent) => {
    const path = join(folder, `${percent}.qcow2`);
    makeEngineImage(path, { virtualSize: LEVEL_SIZE, allocated: Math.floor((clusters * percent) / 100) });
    return path;
  });
  /** @type {{ corral: number, qemu: number }[][]} */
  const runs = levels.map(() => []);
  for (let round = 0; round < Math.max(rounds, LEVEL_ROUNDS); round++) {
    for (const [index, from] of images.entries()) {
      const corral = onCopy(() => corralWrite(FREE, count), from);
      runs[index]?.push({ corral, qemu: onCopy(() => qemuWrite(FREE, count), from) });
    }
  }
  const ours = runs.map((level) => median(level.map(({ corral }) => corral)));
  const theirs = runs.map((level) => median(level.map(({ qemu }) => qemu)));
  for (const [index, percent] of levels.entries()) {
    const ratio = median((runs[index] ?? []).map(({ corral, qemu }) => qemu / corral));
    printRow(`${percent} % full`, ours[index], theirs[index], ratio);
  }
  const spread = (/** @type {number[]} */ values) => Math.max(...values) / Math.min(...values);
  printRow('dearest level, times the cheapest one', spread(ours), spread(theirs), spread(theirs) / spread(ours));
}

/** @param {string[]} command */
function peakMiB([program = '', ...args]) {
  const { stdout } = spawnSync('bash', ['-c', PEAK_SCRIPT, 'bash', program, ...args], { encoding: 'utf8' });
  return Number(/(\d+)\s*$/.exec(stdout)?.[1]) / 1024;
}

/**
 * @param {string} name
 * @param {number | undefined} ours
 * @param {number | undefined} theirs
 * @param {number} ratio
 */
function printRow(name, ours = Number.NaN, theirs = Number.NaN, ratio) {
  const numbers = `Corral ${ours.toFixed(2).padStart(10)}  QEMU ${theirs.toFixed(2).padStart(10)}`;
  console.log(`  ${name.padEnd(40)} ${numbers}  ratio ${ratio.toFixed(2)}`);
}

/**
 * @template T
 * @param {() => T} measure
 * @param {string} [from]
 */
function onCopy(measure, from = original) {
  // A copy of a sparse file is sparse when cp makes it, and soon made.
  execFileSync('cp', ['--sparse=always', from, image]);
  return measure();
}

function corralRead() {
  const { iops } = worker('ring-read-worker.mjs', ['1', String(READS)]);
  return 1e6 / iops;
}

/**
 * @param {number} first
 * @param {number} [count]
 */
function corralWrite(first, count = WRITES) {
  return worker('engine-write-worker.mjs', ['1', String(first), String(STRIDE), String(count)]).nanoseconds / 1000;
}

/** @param {string} what */
function corralLibrary(what) {
  return worker('engine-library-worker.mjs', [what]);
}

function qemuRead() {
  return (bench(['-i', 'io_uring', '-S', String(READ_STEP * BLOCK), '-c', String(READS)]) * 1e6) / READS;
}

/**
 * @param {number} first
 * @param {number} [count]
 */
function qemuWrite(first, count = WRITES) {
  const where = ['-o', String(first * CLUSTER), '-S', String(STRIDE * CLUSTER)];
  return (
    (bench(['-w', '-i', 'io_uring', ...where, '-c', String(count), '--flush-interval', String(count)]) * 1e6) / count
  );
}

/** @param {string[]} options */
function bench(options) {
  const args = ['bench', '-f', 'qcow2', '-s', String(BLOCK), '-d', '1', ...options, image];
  const output = execFileSync('qemu-img', args, { encoding: 'utf8' });
  return Number(/completed in ([\d.]+) seconds/.exec(output)?.[1]);
}

function qemuSnapshot() {
  const start = performance.now();
  execFileSync('qemu-img', ['snapshot', '-c', 'bench', image]);
  return performance.now() - start;
}

function qemuCheck() {
  const start = performance.now();
  const { stdout } = spawnSync('bash', ['-c', CHECK_SCRIPT, 'bash', image], { encoding: 'utf8' });
  const milliseconds = performance.now() - start;
  return { milliseconds, peakMiB: Number(/VmHWM:\s+(\d+)/.exec(stdout)?.[1]) / 1024 };
}

/**
 * @param {string} name
 * @param {string[]} args
 */
function worker(name, args) {
  return JSON.parse(execFileSync(process.execPath, [join(HERE, name), image, ...args], { encoding: 'utf8' }));
}

/** @param {number[]} values */
function median(values) {
  return /** @type {number} */ (values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]);
}
