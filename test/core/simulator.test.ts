import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { fillPattern, identify, MIXED, makePatternMemory } from '../../fuzz/simulator/pattern.js';
import { Random } from '../../fuzz/simulator/random.js';
import { CALM } from '../../fuzz/simulator/scenario.js';
import { SimulatedDisk } from '../../fuzz/simulator/simulated-disk.js';
import { simulate } from '../../fuzz/simulator/simulation.js';
import { OperationKind } from '../../host/abi.js';

const dist = join(import.meta.dirname, '../../dist');
const run = promisify(execFile);

function loadCore(): WebAssembly.Module {
  return new WebAssembly.Module(readFileSync(join(dist, 'corral.wasm')));
}

describe('a seed', () => {
  test('gives the same events every time', () => {
    const seeds = Array.from({ length: 12 }, (_, index) => 7000 + index);
    const module = loadCore();

    const first = seeds.map((seed) => simulate(seed, { module }));
    const second = seeds.map((seed) => simulate(seed, { module })).reverse();

    expect(second.reverse()).toEqual(first);
    expect(new Set(first.map(({ hash }) => hash)).size).toBe(seeds.length);
  });

  test('prints its events without changing them', () => {
    const lines: string[] = [];

    const silent = simulate(7100, { module: loadCore() });
    const printed = simulate(7100, { module: loadCore(), print: (line) => lines.push(line) });

    expect(printed).toEqual(silent);
    expect(lines.some((line) => line.includes('finish'))).toBe(true);
  });
});

describe('the simulated disk', () => {
  const bytes = new Uint8Array(2048).fill(7);

  /** A disk that has answered one write of `bytes` at 0; with `flushed`, a flush after it too. */
  function writtenDisk(seed: number, flushed: boolean): SimulatedDisk {
    const disk = new SimulatedDisk(new Random(seed), true, 0, CALM);
    const common = { index: 0, table: false, offset: 0, zeroBefore: 0 };
    disk.submit({ ...common, kind: OperationKind.Write, length: bytes.length, buffer: bytes });
    while (disk.operationsInFlight > 0) disk.advance();
    if (flushed) disk.submit({ ...common, kind: OperationKind.Flush, length: 0, buffer: new Uint8Array(0) });
    while (disk.operationsInFlight > 0) disk.advance();
    return disk;
  }

  /** Which of the four sectors survive a power cut, in many cuts. */
  function survivors(disk: SimulatedDisk): Set<string> {
    const random = new Random(1);
    const found = new Set<string>();
    for (let cut = 0; cut < 300; cut++) {
      const left = new Uint8Array(bytes.length);
      disk.imagineCut(random).bytes.read(0, left);
      found.add([0, 512, 1024, 1536].map((offset) => left[offset]).join(' '));
    }
    return found;
  }

  test('may lose any part of a write that no flush has covered', () => {
    const found = survivors(writtenDisk(1, false));

    expect(found).toContain('0 0 0 0');
    expect(found).toContain('7 7 7 7');
    expect(found.size).toBeGreaterThan(8);
  });

  test('keeps what a flush has covered', () => {
    const found = survivors(writtenDisk(1, true));

    expect([...found]).toEqual(['7 7 7 7']);
  });
});

describe('guest bytes', () => {
  test.each([
    [0, 0, 512],
    [3, 131075, 100],
    [5, 2 ** 33 + 5, 4096],
  ])('at %i for offset %i, %i of them, name their write', (at, offset, length) => {
    const memory = makePatternMemory(8192);

    fillPattern(memory, at, offset, length, 77);

    expect(identify(memory, at, offset, length)).toBe(77);
  });

  test('of two writes, or of another place, are a mixture', () => {
    const memory = makePatternMemory(1024);

    fillPattern(memory, 0, 0, 512, 77);
    fillPattern(memory, 256, 256, 8, 78);
    fillPattern(memory, 512, 8192, 512, 77);

    expect(identify(memory, 0, 0, 512)).toBe(MIXED);
    expect(identify(memory, 512, 512, 512)).toBe(MIXED);
  });
});

describe('the command', () => {
  const main = join(dist, 'fuzz/simulator/main.js');

  test('ends with the counts of its seeds', async () => {
    const { stdout } = await run(process.execPath, [main, '--seeds', '3', '--start', '7200']);

    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/^[0-9]+ passed, 0 failed$/);
  });

  test.each([
    [['--seeds', 'many'], "simulate: --seeds takes a whole number, not 'many'"],
    [['--trace'], 'simulate: --trace needs --seed'],
  ])('refuses %j in one line', async (args, message) => {
    const failure = await run(process.execPath, [main, ...args]).catch((error) => error);

    expect(failure).toMatchObject({ code: 1, stderr: `${message}\n`, stdout: '' });
  });
});
