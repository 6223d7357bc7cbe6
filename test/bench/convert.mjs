/**
 * `corral convert` next to `qemu-img convert`, in turn in one run, on a disk of mixed real data.
 *
 *   node test/bench/convert.mjs [--size 512M|2G] [--rounds N] [--only TEXT] [--folder PATH]
 *
 * Once with the same cache mode of the target for both, and once with each program's own: QEMU's leaves the copy in the
 * page cache, ours makes it durable before it gets its name. Seconds are medians; the ratio is QEMU's time by ours.
 * Processor seconds are shown too: they say more where something else runs. Every copy of ours is compared with the
 * source once.
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

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '2G' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    folder: { type: 'string', default: tmpdir() },
  },
});
const size = Number.parseInt(values.size, 10) * (values.size.endsWith('G') ? 1024 : 1) * MIB;
const rounds = Number(values.rounds);

/** @typedef {{ title: string, source: string, args: string[], format: string }} Direction */
/** @typedef {{ seconds: number, processor: number }} Time */

/** @type {Direction[]} */
const DIRECTIONS = [
  { title: 'raw -> qcow2', source: 'disk.raw', args: ['-f', 'raw', '-O', 'qcow2'], format: 'qcow2' },
  { title: 'qcow2 -> raw', source: 'plain.qcow2', args: ['-f', 'qcow2', '-O', 'raw'], format: 'raw' },
  { title: 'raw -> -c zlib', source: 'disk.raw', args: ['-f', 'raw', '-O', 'qcow2', '-c'], format: 'qcow2' },
  {
    title: 'raw -> -c zstd',
    source: 'disk.raw',
    args: ['-f', 'raw', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd'],
    format: 'qcow2',
  },
  { title: 'zlib -> raw', source: 'zlib.qcow2', args: ['-f', 'qcow2', '-O', 'raw'], format: 'raw' },
  { title: 'zstd -> raw', source: 'zstd.qcow2', args: ['-f', 'qcow2', '-O', 'raw'], format: 'raw' },
  { title: 'chain -> qcow2', source: 'top.qcow2', args: ['-f', 'qcow2', '-O', 'qcow2'], format: 'qcow2' },
  { title: 'raw -> raw', source: 'disk.raw', args: ['-f', 'raw', '-O', 'raw'], format: 'raw' },
];

const folder = mkdtempSync(join(values.folder, 'corral-bench-'));
try {
  const wanted = DIRECTIONS.filter(({ title }) => title.includes(values.only));
  makeSources(new Set(wanted.map(({ source }) => source)));
  console.log(`convert of ${values.size} of mixed real data, medians of ${rounds}: seconds (processor seconds)`);
  for (const direction of wanted) compare(direction, ['-t', 'unsafe']);
  console.log('\nwith the cache mode that each has by itself');
  for (const direction of wanted) compare(direction, []);
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
 */
function compare({ title, source, args, format }, cache) {
  const from = join(folder, source);
  /** @type {Time[]} */
  const ours = [];
  /** @type {Time[]} */
  const theirs = [];
  const target = join(folder, 'target');
  const runOurs = () => time(process.execPath, [MAIN, 'convert', ...args, ...cache, from, target]);
  const runTheirs = () => time('qemu-img', ['convert', ...args, ...cache, from, target]);
  // Memory that the machine has not touched for a while is slow the first time: the first pair does not count.
  for (let round = -1; round < rounds; round++) {
    const corral = runOurs();
    if (round < 0) {
      qemu('compare', '-f', source.endsWith('.raw') ? 'raw' : 'qcow2', '-F', format, from, target);
      if (format === 'qcow2') qemu('check', '-q', '-f', 'qcow2', target);
    }
    rmSync(target);
    const other = runTheirs();
    rmSync(target);
    if (round < 0) continue;
    ours.push(corral);
    theirs.push(other);
  }
  const [corral, other] = [median(ours), median(theirs)];
  const ratio = (other.seconds / corral.seconds).toFixed(2);
  console.log(`  ${title.padEnd(16)} Corral ${shown(corral)}  QEMU ${shown(other)}  ratio ${ratio}`);
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
 * @param {Time[]} times
 * @returns {Time}
 */
function median(times) {
  const sorted = times.toSorted((a, b) => a.seconds - b.seconds);
  return /** @type {Time} */ (sorted[Math.floor(sorted.length / 2)]);
}
