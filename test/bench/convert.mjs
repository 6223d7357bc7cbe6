/**
 * `corral convert` next to `qemu-img convert`, in turn in one run, on a disk of mixed real data.
 *
 *   node test/bench/convert.mjs [--size 512M|2G] [--only TEXT] [--folder PATH]
 *
 * Both with the same cache mode of the target: first QEMU's own (`-t unsafe`: the copy is in the page cache when the program
 * ends), then both durable, which is our own. Seconds are the least of rounds in which the two take turns in going first, as
 * many rounds as there is time for: what disturbs a run only makes it longer, and memory that a virtual machine has given back
 * to its host makes it several times as long. Ratios are QEMU's seconds by ours, of time and of processor time. Bars are for
 * time: not slower in any direction, and compressing at least 1.7 times as fast. Every copy of ours is compared once.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeMixedDisk } from './convert-disk.mjs';

const MAIN = fileURLToPath(new URL('../../dist/bundle/cli/main.cjs', import.meta.url));
const MIB = 1024 * 1024;
/** Seconds of a pair of which one says enough. */
const LONG_PAIR = 40;
/** Seconds that the rounds of one direction take about, where fewer than three would do. */
const SECONDS_EACH = 9;
const MOST_ROUNDS = 7;

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '2G' },
    only: { type: 'string', default: '' },
    folder: { type: 'string', default: tmpdir() },
  },
});
const size = Number.parseInt(values.size, 10) * (values.size.endsWith('G') ? 1024 : 1) * MIB;

/** @typedef {{ title: string, source: string, args: string[], format: string, bar?: number }} Direction */
/** @typedef {{ seconds: number, processor: number }} Time */

/** @type {Direction[]} */
const DIRECTIONS = [
  { title: 'raw -> qcow2', source: 'disk.raw', args: ['-f', 'raw', '-O', 'qcow2'], format: 'qcow2' },
  { title: 'qcow2 -> raw', source: 'plain.qcow2', args: ['-f', 'qcow2', '-O', 'raw'], format: 'raw' },
  { title: 'raw -> -c zlib', source: 'disk.raw', args: ['-f', 'raw', '-O', 'qcow2', '-c'], format: 'qcow2', bar: 1.7 },
  {
    title: 'raw -> -c zstd',
    source: 'disk.raw',
    args: ['-f', 'raw', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd'],
    format: 'qcow2',
    bar: 1.7,
  },
  { title: 'zlib -> raw', source: 'zlib.qcow2', args: ['-f', 'qcow2', '-O', 'raw'], format: 'raw' },
  { title: 'zstd -> raw', source: 'zstd.qcow2', args: ['-f', 'qcow2', '-O', 'raw'], format: 'raw' },
  { title: 'chain -> qcow2', source: 'top.qcow2', args: ['-f', 'qcow2', '-O', 'qcow2'], format: 'qcow2' },
  { title: 'chain -> raw', source: 'top.qcow2', args: ['-f', 'qcow2', '-O', 'raw'], format: 'raw' },
  { title: 'raw -> raw', source: 'disk.raw', args: ['-f', 'raw', '-O', 'raw'], format: 'raw' },
];

const folder = mkdtempSync(join(values.folder, 'corral-bench-'));
try {
  const wanted = DIRECTIONS.filter(({ title }) => title.includes(values.only));
  makeSources(new Set(wanted.map(({ source }) => source)));
  console.log(`convert of ${values.size} of mixed real data: seconds (processor seconds), the least of rounds`);
  const met = wanted.map((direction) => compare(direction, ['-t', 'unsafe']));
  console.log('\ndurable at the end');
  // What is long enough for the difference not to matter is left out.
  const durable = wanted.filter(({ bar }) => bar === undefined);
  met.push(...durable.map((direction) => compare(direction, ['-t', 'writeback'])));
  console.log(`\n${met.filter(Boolean).length} of ${met.length} bars are met`);
} finally {
  rmSync(folder, { recursive: true });
}

/** @param {Set<string>} names */
function makeSources(names) {
  const raw = join(folder, 'disk.raw');
  makeMixedDisk(raw, size);
  const into = (/** @type {string} */ name, /** @type {string[]} */ ...args) => {
    if (names.has(name)) qemu('convert', '-f', 'raw', '-O', 'qcow2', ...args, raw, join(folder, name));
  };
  into('plain.qcow2');
  into('zlib.qcow2', '-c', '-W');
  into('zstd.qcow2', '-c', '-W', '-o', 'compression_type=zstd');
  if (names.has('top.qcow2')) makeChain(raw);
}

/**
 * Three layers: each of the upper two holds a stretch of every eight.
 *
 * @param {string} raw
 */
function makeChain(raw) {
  const paths = ['base', 'mid', 'top'].map((name) => join(folder, `${name}.qcow2`));
  const [base = '', ...overlays] = paths;
  qemu('convert', '-f', 'raw', '-O', 'qcow2', raw, base);
  let below = base;
  for (const [index, path] of overlays.entries()) {
    qemu('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', path);
    const commands = [];
    for (let offset = (2 + 3 * index) * MIB; offset + MIB <= size; offset += 8 * MIB) {
      commands.push('-c', `write -q -P ${17 + index} ${offset} 1M`);
    }
    execFileSync('qemu-io', ['-f', 'qcow2', ...commands, path]);
    below = path;
  }
}

/** @param {string[]} args */
function qemu(...args) {
  execFileSync('qemu-img', args);
}

/**
 * @param {Direction} direction
 * @param {string[]} cache
 * @returns {boolean} whether the bar is met
 */
function compare({ title, source, args, format, bar = 1 }, cache) {
  const from = join(folder, source);
  const target = join(folder, 'target');
  const programs = [
    () => time(process.execPath, [MAIN, 'convert', ...args, ...cache, from, target]),
    () => time('qemu-img', ['convert', ...args, ...cache, from, target]),
  ];
  /** @type {[ours: Time[], theirs: Time[]]} */
  const times = [[], []];
  const first = programs.map((program, index) => {
    rmSync(target, { force: true });
    const taken = program();
    if (index === 0) verify(from, source.endsWith('.raw') ? 'raw' : 'qcow2', target, format);
    return taken;
  });
  const pair = first.reduce((sum, { seconds }) => sum + seconds, 0);
  // Memory that the machine has not touched for a while is slow the first time: a short first pair does not count.
  const rounds = pair > LONG_PAIR ? 0 : Math.min(MOST_ROUNDS, Math.max(3, Math.ceil(SECONDS_EACH / pair)));
  if (rounds === 0) for (const [index, taken] of first.entries()) times[index]?.push(taken);
  for (let round = 0; round < rounds; round++) {
    for (const index of round % 2 === 0 ? [0, 1] : [1, 0]) {
      rmSync(target, { force: true });
      times[index]?.push(/** @type {() => Time} */ (programs[index])());
    }
  }
  rmSync(target);
  const [corral, other] = [least(times[0]), least(times[1])];
  const ratio = other.seconds / corral.seconds;
  const processor = (other.processor / corral.processor).toFixed(2);
  console.log(
    `  ${title.padEnd(15)} Corral ${shown(corral)}  QEMU ${shown(other)}  ${times[0].length} rounds  ` +
      `ratio ${ratio.toFixed(2)} (${processor})  ${ratio >= bar ? 'met' : 'MISSED'}: ${bar}`,
  );
  return ratio >= bar;
}

/**
 * @param {string} from
 * @param {string} fromFormat
 * @param {string} target
 * @param {string} format
 */
function verify(from, fromFormat, target, format) {
  qemu('compare', '-q', '-f', fromFormat, '-F', format, from, target);
  if (format === 'qcow2') qemu('check', '-q', '-f', 'qcow2', target);
}

/**
 * @param {string} program
 * @param {string[]} args
 * @returns {Time}
 */
function time(program, args) {
  const begun = performance.now();
  // The shell's own figures: Node has none of a child's.
  const command = 'TIMEFORMAT="%R %U %S"; time "$@"';
  // A machine's own certificates would be read at every start of Node.
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: '' };
  const { status, stderr } = spawnSync('bash', ['-c', command, 'bash', program, ...args], { encoding: 'utf8', env });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
  const [, user = 0, system = 0] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  return { seconds: (performance.now() - begun) / 1000, processor: user + system };
}

/** @param {Time} time */
function shown({ seconds, processor }) {
  return `${seconds.toFixed(2).padStart(6)} (${processor.toFixed(2).padStart(6)})`;
}

/**
 * Of each by itself.
 *
 * @param {Time[]} times
 * @returns {Time}
 */
function least(times) {
  return {
    seconds: Math.min(...times.map(({ seconds }) => seconds)),
    processor: Math.min(...times.map(({ processor }) => processor)),
  };
}
