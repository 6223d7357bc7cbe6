/**
 * How long commands take that do next to nothing, next to a Node that does nothing, in turn. The bar: `info` in at most 1.5
 * times the time of `node -e 0`.
 *
 *   node test/bench/start.mjs [ROUNDS]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BAR = 1.5;
const rounds = Number(process.argv[2] ?? 30);
const folder = mkdtempSync(join(tmpdir(), 'corral-bench-'));
const image = join(folder, 'image.qcow2');
const corral = join(ROOT, 'dist/bundle/cli/main.cjs');
const shell = join(ROOT, 'dist/bundle/io/main.cjs');

/** @type {Record<string, readonly string[]>} */
const COMMANDS = {
  'node -e 0': [process.execPath, '-e', '0'],
  'corral info': [process.execPath, corral, 'info', image],
  'corral map': [process.execPath, corral, 'map', image],
  'corral-io -c length': [process.execPath, shell, '-c', 'length', image],
  'qemu-img info': ['qemu-img', 'info', image],
};

try {
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1G']);
  const times = new Map(Object.keys(COMMANDS).map((name) => [name, /** @type {number[]} */ ([])]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, command] of Object.entries(COMMANDS)) times.get(name)?.push(milliseconds(command));
  }
  console.log(`Commands that do next to nothing, ${rounds} rounds, Node ${process.versions.node}: middle and best`);
  const [bare] = [...times.values()].map(middle);
  for (const [name, found] of times) {
    const ratio = (middle(found) / /** @type {number} */ (bare)).toFixed(2);
    const [half, best] = [middle(found), Math.min(...found)].map((time) => time.toFixed(0));
    const bar = name === 'corral info' ? `, ${Number(ratio) <= BAR ? 'met' : 'MISSED'}: ${BAR}` : '';
    console.log(`  ${name.padEnd(20)} ${half} ms, ${best} ms: ${ratio} times node -e 0${bar}`);
  }
} finally {
  rmSync(folder, { recursive: true });
}

/**
 * @param {readonly string[]} command
 * @returns {number}
 */
function milliseconds([program = '', ...args]) {
  // A machine's own certificates would be read at every start of Node, and make what is compared the same.
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: '' };
  const start = process.hrtime.bigint();
  const { status } = spawnSync(program, args, { stdio: 'ignore', env });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: status ${status}`);
  return Number(process.hrtime.bigint() - start) / 1e6;
}

/**
 * @param {readonly number[]} times
 * @returns {number}
 */
function middle(times) {
  return [...times].sort((first, second) => first - second)[times.length >> 1] ?? Number.NaN;
}
