/**
 * An image served over NBD on a Unix socket: `corral serve` and `qemu-nbd`, on the same fully allocated image in page cache,
 * with fio's NBD engine as the client of both.
 *
 *   node test/bench/nbd.mjs [ROUNDS] [--seconds N]
 *
 * Ratios are taken within each round, next to each other, and the middle one is printed; the two take turns in going first. The
 * client takes a core of its own. Two and a half minutes.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SIZE = 2 ** 29;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string', default: '2' } },
});
const rounds = Number(positionals[0] ?? 3);

const LOADS = [
  { name: '4 KiB random reads, depth 1', rw: 'randread', bs: '4k', depth: 1 },
  { name: '4 KiB random writes, depth 1', rw: 'randwrite', bs: '4k', depth: 1 },
  { name: '4 KiB random reads, depth 32', rw: 'randread', bs: '4k', depth: 32 },
  { name: '4 KiB random writes, depth 32', rw: 'randwrite', bs: '4k', depth: 32 },
  { name: '1 MiB sequential reads, depth 4', rw: 'read', bs: '1m', depth: 4 },
  { name: '1 MiB sequential writes, depth 4', rw: 'write', bs: '1m', depth: 4 },
];

/** @typedef {{ iops: number, cpuMicroseconds: number }} Result CPU of the server */

mkdirSync(join(ROOT, '.cache'), { recursive: true });
const folder = mkdtempSync(join(ROOT, '.cache/bench-'));
const image = join(folder, 'image.qcow2');
try {
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P 0x5a 0 ${SIZE}`, image], { stdio: 'ignore' });
  for (const load of LOADS) await compare(load);
} finally {
  rmSync(folder, { recursive: true });
}

/** @param {(typeof LOADS)[number]} load */
async function compare(load) {
  const runs = [];
  for (let round = 0; round < rounds; round++) {
    readFileSync(image); // into page cache, should anything have pushed it out
    const ours = () => measure(startCorral, load);
    const theirs = () => measure(startQemu, load);
    if (round % 2 === 0) runs.push({ corral: await ours(), qemu: await theirs() });
    else runs.push({ qemu: await theirs(), corral: await ours() });
  }
  console.log(load.name);
  print(
    'corral serve',
    runs.map(({ corral }) => corral),
  );
  print(
    'qemu-nbd',
    runs.map(({ qemu }) => qemu),
  );
  console.log(
    `    Corral is at ${median(runs.map(({ corral, qemu }) => corral.iops / qemu.iops)).toFixed(2)} times QEMU`,
  );
}

/**
 * @param {string} name
 * @param {Result[]} results
 */
function print(name, results) {
  const iops = Math.round(median(results.map((result) => result.iops)));
  const cpu = median(results.map((result) => result.cpuMicroseconds));
  console.log(`    ${name.padEnd(14)}${String(iops).padStart(9)} IOPS ${cpu.toFixed(2).padStart(7)} us CPU a request`);
}

/**
 * @param {(socket: string) => import('node:child_process').ChildProcess} start
 * @param {(typeof LOADS)[number]} load
 * @returns {Promise<Result>}
 */
async function measure(start, load) {
  const socket = join(folder, 'socket');
  const server = start(socket);
  const ended = new Promise((resolve) => server.once('close', resolve));
  while (!existsSync(socket)) {
    if (server.exitCode !== null) throw new Error('the server ended');
    await wait(10);
  }
  try {
    runFio(socket, load, 1); // until everything is compiled and cached
    const before = cpuSeconds(server.pid);
    const { ios, iops } = runFio(socket, load, Number(values.seconds));
    return { iops, cpuMicroseconds: ((cpuSeconds(server.pid) - before) * 1e6) / ios };
  } finally {
    server.kill('SIGTERM');
    await ended;
  }
}

/**
 * @param {string} socket
 * @param {(typeof LOADS)[number]} load
 * @param {number} seconds
 */
function runFio(socket, { rw, bs, depth }, seconds) {
  const where = ['--name=job', '--ioengine=nbd', `--uri=nbd+unix:///?socket=${socket}`];
  const what = [`--rw=${rw}`, `--bs=${bs}`, `--iodepth=${depth}`, '--randrepeat=1', '--norandommap'];
  const times = ['--time_based', `--runtime=${seconds}`, '--output-format=json', '--thread'];
  const output = execFileSync('fio', [...where, ...what, ...times], { encoding: 'utf8', cwd: folder });
  const [job] = JSON.parse(output.slice(output.indexOf('{'))).jobs;
  const side = rw.includes('read') ? job.read : job.write;
  return { ios: side.total_ios, iops: side.iops };
}

/** @param {string} socket */
function startCorral(socket) {
  const main = join(ROOT, 'dist/bundle/cli/main.cjs');
  return spawn(process.execPath, [main, 'serve', '--socket', socket, image], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

/** @param {string} socket */
function startQemu(socket) {
  const options = ['-f', 'qcow2', '-k', socket, '-t', '--aio=io_uring', '--cache=writeback', '--discard=unmap'];
  return spawn('qemu-nbd', [...options, image], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** User and system time of a process, all its threads together. */
function cpuSeconds(/** @type {number | undefined} */ pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** @param {number[]} numbers */
function median(numbers) {
  return /** @type {number} */ (numbers.toSorted((a, b) => a - b)[(numbers.length - 1) >> 1]);
}
