/**
 * Scattered 4 KiB reads of a fully allocated 1 GiB image in page cache by one serving thread and by two on one shared core,
 * in one run. The bar: two at least 1.6 times one, on two free processors.
 *
 *   node test/bench/workers.mjs [ROUNDS] [DEPTH]
 *
 * The threads do what those of a ublk device do, with requests made up in the place of the kernel's.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOT = join(HERE, '../..');
const SIZE = 2 ** 30;
const READS = 2_000_000;
const rounds = Number(process.argv[2] ?? 3);
const depth = Number(process.argv[3] ?? 32);

/** @typedef {{ iops: number, cpuMicroseconds: number }} Result */

mkdirSync(join(ROOT, '.cache'), { recursive: true });
const folder = mkdtempSync(join(ROOT, '.cache/bench-'));
const image = join(folder, 'image.qcow2');
try {
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P 0x5a 0 ${SIZE}`, image], { stdio: 'ignore' });
  console.log(`Scattered 4 KiB reads, 1 GiB image, all allocated, in page cache, depth ${depth} a thread`);
  const runs = Array.from({ length: rounds }, () => {
    readFileSync(image); // into page cache, should anything have pushed it out
    return { own: run(0), one: run(1), two: run(2) };
  });
  print(
    'one thread, a core of its own',
    runs.map(({ own }) => own),
  );
  print(
    'one thread, the shared core',
    runs.map(({ one }) => one),
  );
  print(
    'two threads, one shared core',
    runs.map(({ two }) => two),
  );
  const ofOwn = median(runs.map(({ own, two }) => two.iops / own.iops));
  const ofOne = median(runs.map(({ one, two }) => two.iops / one.iops));
  console.log(`  two threads are at ${ofOwn.toFixed(2)} times one with a core of its own (bar: 1.60),`);
  console.log(`  and at ${ofOne.toFixed(2)} times one with the shared core`);
} finally {
  rmSync(folder, { recursive: true });
}

/**
 * @param {number} threads 0 for one that shares nothing
 * @returns {Result}
 */
function run(threads) {
  const args = [join(HERE, 'workers-run.mjs'), image, String(threads), String(depth), String(READS)];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
}

/**
 * @param {string} name
 * @param {Result[]} results
 */
function print(name, results) {
  const iops = Math.round(median(results.map((result) => result.iops)));
  const cpu = median(results.map((result) => result.cpuMicroseconds));
  console.log(`  ${name.padEnd(32)}${String(iops).padStart(9)} IOPS ${cpu.toFixed(2).padStart(7)} us CPU a read`);
}

/** @param {number[]} values */
function median(values) {
  return /** @type {number} */ (values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]);
}
