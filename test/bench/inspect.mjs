/**
 * `corral inspect` as a process, in each sandbox, next to `qemu-img check` and an empty Node: a clean image of 1 GiB, and one of
 * 40 GiB whose tables are all there. The bars: 0.5 s for the first, 2 s and 32 MiB read for the second.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../dist/bundle/cli/main.cjs', import.meta.url));
const LEVELS = ['wasm', 'process', 'bwrap', 'landlock'];
const ROUNDS = Number(process.argv[2] ?? 7);
const MIB = 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), 'corral-bench-'));
try {
  for (const [size, seconds] of /** @type {const} */ ([
    ['1G', 0.5],
    ['40G', 2],
  ])) {
    const image = join(folder, `${size}.qcow2`);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', image, size]);
    const report = JSON.parse(execFileSync(process.execPath, [MAIN, 'inspect', '--output=json', image]).toString());
    const read = Number(report.resources.bytesRead) / MIB;
    console.log(
      `\n${size}, all tables: ${report.verdict.result}, ${read.toFixed(1)} MiB read (bar: 32), bar ${seconds} s`,
    );
    /** @type {[string, string, string[]][]} */
    const commands = [
      ['node -e 0', process.execPath, ['-e', '0']],
      ['qemu-img check', 'qemu-img', ['check', '-q', image]],
      ...LEVELS.map(
        /** @returns {[string, string, string[]]} */
        (level) => [
          `inspect, ${level}`,
          process.execPath,
          [MAIN, 'inspect', '-q', '--max-time=600', `--sandbox=${level}`, image],
        ],
      ),
    ];
    measure(commands);
  }
} finally {
  rmSync(folder, { recursive: true });
}

/**
 * Medians of rounds in which every command has its turn.
 *
 * @param {[string, string, string[]][]} commands
 */
function measure(commands) {
  const times = commands.map(() => /** @type {number[]} */ ([]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, [name, program, args]] of commands.entries()) {
      const start = performance.now();
      const { status } = spawnSync(program, args);
      if (status !== 0) throw new Error(`${name}: exit status ${status}`);
      times[index]?.push(performance.now() - start);
    }
  }
  const [empty = 0] = times.map(median);
  for (const [index, [name]] of commands.entries()) {
    const time = median(times[index] ?? []);
    console.log(`  ${name.padEnd(20)} ${time.toFixed(0).padStart(6)} ms  ${(time / empty).toFixed(2)} of node -e 0`);
  }
}

/** @param {number[]} values */
function median(values) {
  return values.toSorted((first, second) => first - second)[Math.floor(values.length / 2)] ?? Number.NaN;
}
