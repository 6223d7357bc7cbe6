/**
 * Block devices in a virtual machine with a ublk driver: Corral's, one that does nothing (the limit), the kernel's `loop` on
 * the same bytes, and `qemu-nbd` with /dev/nbd0; each an allocated 1 GiB qcow2 in a memory file system.
 *
 *   node test/bench/ublk.mjs [--rounds N] [--seconds N] [--kernel SERIES] [--kinds corral,null,loop,qemu-nbd]
 *
 * A kind `corral-PATH` is Corral with that data path. Emulation distorts: only ratios within one run mean something, and
 * nothing else should run meanwhile. Bars: at depth 32 at least 0.6 of the null device and 4 times qemu-nbd.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = join(HERE, '../..');
const WORKLOADS = ['read-1', 'read-32', 'write-1', 'write-32', 'sequential-read', 'sequential-write'];
/** Clock ticks a second, as /proc counts them. */
const TICKS = 100;

/** @typedef {{ iops: number, serverMicroseconds: number, machineMicroseconds: number }} Result */

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '4' },
    kernel: { type: 'string', default: '7.2' },
    kinds: { type: 'string', default: 'null,corral,qemu-nbd,loop' },
  },
});
const rounds = Number(values.rounds);
const kinds = values.kinds.split(',');
const shared = mkdtempSync(join(tmpdir(), 'corral-bench-'));
try {
  runGuest();
  report();
} finally {
  rmSync(shared, { recursive: true });
}

function runGuest() {
  const script = `exec bash ${join(HERE, 'ublk-guest.sh')} ${rounds} ${values.seconds} ${kinds.join(' ')}`;
  const options = [
    '-k',
    values.kernel,
    '-w',
    shared,
    '-m',
    '3584',
    '-M',
    'ublk_drv,nbd,loop',
    '-t',
    '1800',
    '-c',
    script,
  ];
  const { status } = spawnSync(process.execPath, [join(ROOT, 'test/vm/run.mjs'), ...options], { stdio: 'inherit' });
  if (status !== 0) throw new Error(`the virtual machine's script ended with status ${status}`);
}

function report() {
  console.log(
    `Linux ${values.kernel} in emulation, ${rounds} rounds; operations a second, and CPU of the server (of all) a piece`,
  );
  const results = new Map(kinds.map((kind) => [kind, WORKLOADS.map((name) => resultsOf(kind, name))]));
  for (const [index, name] of WORKLOADS.entries()) {
    console.log(`  ${name}`);
    for (const kind of kinds) print(kind, /** @type {Result[][]} */ (results.get(kind))[index] ?? []);
    for (const kind of kinds.filter((each) => each.startsWith('corral'))) {
      const ratios = kinds
        .filter((each) => !each.startsWith('corral'))
        .map((other) => `${ratio(results.get(kind)?.[index], results.get(other)?.[index])} of ${other}`);
      console.log(`    ${kind} is at ${ratios.join(', ')}`);
    }
  }
  printStart(JSON.parse(readFileSync(join(shared, 'start.json'), 'utf8')));
}

/**
 * The bar is for a machine of its own, which has no such kernel: what an empty Node takes here and there is the scale.
 *
 * @param {{ milliseconds: number[], cpuMilliseconds: number[], emptyMilliseconds: number[] }} start
 */
function printStart({ milliseconds, cpuMilliseconds, emptyMilliseconds }) {
  const native = Array.from({ length: 5 }, () => {
    const begun = performance.now();
    spawnSync(process.execPath, ['-e', '0'], { env: { ...process.env, NODE_EXTRA_CA_CERTS: '' } });
    return performance.now() - begun;
  });
  const slower = median(emptyMilliseconds) / median(native);
  const [whole, processor] = [milliseconds, cpuMilliseconds].map(median);
  console.log(
    `  start to usable device: ${whole?.toFixed(0)} ms, ${processor?.toFixed(0)} ms of CPU; an empty Node takes ` +
      `${slower.toFixed(1)} times as long as outside: about ${((whole ?? Number.NaN) / slower).toFixed(0)} ms there (bar: 30)`,
  );
}

/**
 * @param {string} kind
 * @param {string} name
 * @returns {Result[]}
 */
function resultsOf(kind, name) {
  return Array.from({ length: rounds }, (_, index) => join(shared, `${kind}.${name}.${index + 1}`))
    .filter((file) => existsSync(`${file}.json`))
    .map((file) => {
      const [job] = JSON.parse(readFileSync(`${file}.json`, 'utf8')).jobs;
      const count = job.read.total_ios + job.write.total_ios;
      const ticks = readFileSync(`${file}.ticks`, 'utf8').split(/\s+/).map(Number);
      const [serverBefore = 0, allBefore = 0, serverAfter = 0, allAfter = 0] = ticks;
      return {
        iops: job.read.iops + job.write.iops,
        serverMicroseconds: ((serverAfter - serverBefore) * 1e6) / TICKS / count,
        machineMicroseconds: ((allAfter - allBefore) * 1e6) / TICKS / count,
      };
    });
}

/**
 * @param {string} kind
 * @param {Result[]} results
 */
function print(kind, results) {
  const iops = Math.round(median(results.map((result) => result.iops)));
  const server = median(results.map((result) => result.serverMicroseconds)).toFixed(1);
  const machine = median(results.map((result) => result.machineMicroseconds)).toFixed(1);
  console.log(`    ${kind.padEnd(18)}${String(iops).padStart(8)} IOPS ${server.padStart(8)} us (${machine} us)`);
}

/**
 * @param {Result[] | undefined} ours
 * @param {Result[] | undefined} theirs
 */
function ratio(ours = [], theirs = []) {
  return median(ours.map(({ iops }, round) => iops / (theirs[round]?.iops ?? Number.NaN))).toFixed(2);
}

/** @param {number[]} numbers */
function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}
