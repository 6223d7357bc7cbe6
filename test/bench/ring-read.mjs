/**
 * Scattered 4 KiB reads of a fully allocated 1 GiB image in page cache: raw io_uring, which is the limit, Corral's core
 * on Corral's ring, and `qemu-img bench -i io_uring`, in one run.
 *
 *   node test/bench/ring-read.mjs [ROUNDS]
 *
 * The image lies on the disk of this repository: io_uring hands reads of a tmpfs to helper threads, which would be what
 * is measured. Ratios are taken within each round, next to each other, and the middle one is printed.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { scatteringStep } from './scatter.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = join(HERE, '../..');
const BLOCK = 4096;
const SIZE = 2 ** 30;
const READS = 2_000_000;
const QEMU_READS = 500_000;
const rounds = Number(process.argv[2] ?? 3);

/** @typedef {{ iops: number, cpuMicroseconds: number }} Result */

mkdirSync(join(ROOT, '.cache'), { recursive: true });
const folder = mkdtempSync(join(ROOT, '.cache/bench-'));
const image = join(folder, 'image.qcow2');
const rawRing = join(folder, 'raw-ring');
try {
  compileRawRing();
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P 0x5a 0 ${SIZE}`, image], { stdio: 'ignore' });
  console.log('Scattered 4 KiB reads, 1 GiB image of 64 KiB clusters, all allocated, in page cache');
  for (const depth of [1, 32]) compare(depth);
} finally {
  rmSync(folder, { recursive: true });
}

/** @param {number} depth */
function compare(depth) {
  const runs = Array.from({ length: rounds }, () => {
    readFileSync(image); // into page cache, should anything have pushed it out
    return { limit: runRaw(depth), corral: runCorral(depth), qemu: runQemu(depth) };
  });
  console.log(`  depth ${depth}`);
  print(
    'raw io_uring',
    runs.map(({ limit }) => limit),
  );
  print(
    'Corral',
    runs.map(({ corral }) => corral),
  );
  print(
    'QEMU',
    runs.map(({ qemu }) => qemu),
  );
  const ofLimit = median(runs.map(({ limit, corral }) => corral.iops / limit.iops));
  const ofQemu = median(runs.map(({ qemu, corral }) => corral.iops / qemu.iops));
  console.log(`    Corral is at ${ofLimit.toFixed(2)} of the limit and ${ofQemu.toFixed(2)} times QEMU`);
}

/**
 * @param {string} name
 * @param {Result[]} results
 */
function print(name, results) {
  const iops = Math.round(median(results.map((result) => result.iops)));
  const cpu = median(results.map((result) => result.cpuMicroseconds));
  console.log(`    ${name.padEnd(14)}${String(iops).padStart(9)} IOPS ${cpu.toFixed(2).padStart(7)} us CPU a read`);
}

/**
 * @param {number} depth
 * @returns {Result}
 */
function runRaw(depth) {
  return JSON.parse(
    execFileSync(rawRing, [image, String(SIZE / BLOCK), String(depth), String(READS)], { encoding: 'utf8' }),
  );
}

/**
 * @param {number} depth
 * @returns {Result}
 */
function runCorral(depth) {
  const worker = join(HERE, 'ring-read-worker.mjs');
  return JSON.parse(
    execFileSync(process.execPath, [worker, image, String(depth), String(READS)], { encoding: 'utf8' }),
  );
}

/**
 * @param {number} depth
 * @returns {Result}
 */
function runQemu(depth) {
  // qemu-img wraps around at the last block, which is therefore never read.
  const step = scatteringStep(SIZE / BLOCK - 1) * BLOCK;
  const options = `-f qcow2 -i io_uring -s ${BLOCK} -S ${step} -c ${QEMU_READS} -d ${depth}`;
  const output = bench(options);
  const seconds = Number(/completed in ([\d.]+) seconds/.exec(output)?.[1]);
  const [, user, system] = /cpu ([\d.]+) ([\d.]+)/.exec(output) ?? [];
  return { iops: QEMU_READS / seconds, cpuMicroseconds: ((Number(user) + Number(system)) * 1e6) / QEMU_READS };
}

/**
 * What qemu-img prints, and its CPU time. QEMU 10.0 sometimes dies of a segmentation fault when all is in page cache.
 *
 * @param {string} options
 * @returns {string}
 */
function bench(options, attempts = 3) {
  const script = `TIMEFORMAT='cpu %U %S'; { time qemu-img bench ${options} "$1"; } 2>&1`;
  try {
    return execFileSync('bash', ['-c', script, 'bash', image], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
    });
  } catch (error) {
    if (attempts === 1) throw error;
    return bench(options, attempts - 1);
  }
}

function compileRawRing() {
  const native = join(ROOT, 'native');
  execFileSync(process.env.CXX ?? 'g++', [
    '-std=c++20',
    '-O2',
    '-fno-exceptions',
    '-fno-rtti',
    '-D_GNU_SOURCE',
    `-I${native}`,
    join(HERE, 'raw-ring.cpp'),
    join(native, 'uring.cpp'),
    '-o',
    rawRing,
  ]);
}

/** @param {number[]} values */
function median(values) {
  return /** @type {number} */ (values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]);
}
