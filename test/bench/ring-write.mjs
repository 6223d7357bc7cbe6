/**
 * Allocating 4 KiB writes next to `qemu-img bench`, in one run: every write goes to a cluster that has no data yet.
 *
 *   node test/bench/ring-write.mjs [ROUNDS]
 *
 * Both programs get a new image for every round. "stale tail": the file goes on behind the image with random bytes, so
 * the rest of each cluster must be zeroed. The image is checked with qemu-img after each round.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const WORKER = fileURLToPath(new URL('ring-write-worker.mjs', import.meta.url));
const MEMORY = '/dev/shm';
const CLUSTER = 65536;
const WRITES = 65536;
/** Bytes of the disk: as many clusters as writes. */
const DISK = '4G';
const rounds = Number(process.argv[2] ?? 3);

/** @typedef {{ iops: number, cpuMicroseconds: number, quarters?: number[] }} Result */

const folder = mkdtempSync(join(statSync(MEMORY, { throwIfNoEntry: false }) ? MEMORY : tmpdir(), 'corral-bench-'));
const image = join(folder, 'image.qcow2');
try {
  console.log('Allocating 4 KiB writes, 64 KiB clusters, one write a cluster, files in memory');
  for (const depth of [1, 32]) compare(`depth ${depth}`, depth, false);
  compare('depth 32, stale tail', 32, true);
  growth();
} finally {
  rmSync(folder, { recursive: true });
}

/**
 * @param {string} title
 * @param {number} depth
 * @param {boolean} stale
 */
function compare(title, depth, stale) {
  const ours = [];
  const theirs = [];
  for (let round = 0; round < rounds; round++) {
    ours.push(runCorral(DISK, depth, stale));
    theirs.push(runQemu(DISK, depth, stale));
  }
  const corral = median(ours);
  const qemu = median(theirs);
  const cpu = corral.cpuMicroseconds.toFixed(1);
  const ratio = (corral.iops / qemu.iops).toFixed(2);
  console.log(`  ${title}: Corral ${corral.iops} IOPS (${cpu} us CPU a write), QEMU ${qemu.iops} IOPS, ratio ${ratio}`);
}

/** What a cluster costs as the image fills, on a small and on a huge disk. */
function growth() {
  for (const size of [DISK, '1T']) {
    const { quarters = [], cpuMicroseconds } = median(Array.from({ length: rounds }, () => runCorral(size, 1, false)));
    console.log(
      `  ${size}iB disk, depth 1: ns a write by quarter ${quarters.join(', ')} (${cpuMicroseconds.toFixed(1)} us CPU)`,
    );
  }
}

/**
 * @param {string} size
 * @param {number} depth
 * @param {boolean} stale
 * @returns {Result}
 */
function runCorral(size, depth, stale) {
  makeImage(size, stale);
  const output = execFileSync(process.execPath, [WORKER, image, String(depth), String(WRITES)], { encoding: 'utf8' });
  execFileSync('qemu-img', ['check', '-q', image]);
  return JSON.parse(output);
}

/**
 * @param {string} size
 * @param {number} depth
 * @param {boolean} stale
 * @returns {Result}
 */
function runQemu(size, depth, stale) {
  makeImage(size, stale);
  const options = [
    '-w',
    '-f',
    'qcow2',
    '-i',
    'io_uring',
    '-s',
    '4096',
    '-S',
    String(CLUSTER),
    '--flush-interval',
    String(WRITES),
  ];
  const output = execFileSync('qemu-img', ['bench', ...options, '-c', String(WRITES), '-d', String(depth), image], {
    encoding: 'utf8',
  });
  const seconds = Number(/completed in ([\d.]+) seconds/.exec(output)?.[1]);
  return { iops: Math.round(WRITES / seconds), cpuMicroseconds: Number.NaN };
}

/**
 * @param {string} size
 * @param {boolean} stale
 */
function makeImage(size, stale) {
  rmSync(image, { force: true });
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, size]);
  if (!stale) return;
  const descriptor = openSync(image, 'r+');
  const garbage = Buffer.alloc(1 << 20, 0xa5);
  const start = Math.ceil(statSync(image).size / CLUSTER) * CLUSTER;
  for (let done = 0; done < WRITES * CLUSTER; done += garbage.length) {
    writeSync(descriptor, garbage, 0, garbage.length, start + done);
  }
  ftruncateSync(descriptor, start + WRITES * CLUSTER);
  closeSync(descriptor);
}

/**
 * @param {Result[]} results
 * @returns {Result} the one in the middle, by IOPS
 */
function median(results) {
  const sorted = results.toSorted((a, b) => a.iops - b.iops);
  return /** @type {Result} */ (sorted[Math.floor(sorted.length / 2)]);
}
