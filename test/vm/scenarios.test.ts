import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Fixture, judgeExt4Image, makeFixture } from './fixture.js';
import { ensureKernel, KERNEL_SERIES, repository } from './kernel.js';
import { Machine, type Outcome } from './machine.js';
import { scenarioScript } from './scenario.js';

const run = promisify(execFile);

let shared: string;
let fixture: Fixture;

beforeAll(async () => {
  shared = await mkdtemp(join(tmpdir(), 'corral-scenarios-'));
  fixture = await makeFixture(shared);
}, 180_000);

afterAll(async () => {
  await rm(shared, { recursive: true, force: true });
});

// Big enough for an image of half a GiB, what is written to it, and the guest's own caches.
describe.each(KERNEL_SERIES)('on Linux %s', { timeout: 300_000 }, (series) => {
  let machine: Machine;

  beforeAll(async () => {
    machine = await Machine.create(series, { shared, memoryMiB: 3072, scratchMiB: 2048 });
  }, 180_000);

  afterAll(async () => {
    await machine.close();
  });

  async function scenario(name: string, ...args: readonly string[]): Promise<Outcome> {
    const outcome = await machine.run(scenarioScript(name, ...args), { seconds: 120 });
    // The whole output is what explains a failure.
    expect(outcome.status, `${name}: ${outcome.output}`).toBe(0);
    return outcome;
  }

  test('the guest has the driver and the programs that the scenarios need', async () => {
    const { release } = await ensureKernel(series);

    const outcome = await scenario('ready', release);

    expect(outcome.output).toContain('/dev/ublk-control');
  });

  test('an ext4 in an image of qemu-img is read, changed and left in order', async () => {
    const image = join(shared, `qemu-${series}.qcow2`);
    await copyFile(fixture.image, image);

    // All of it on one kernel is enough: copies of files differ in nothing from one kernel to the next.
    await scenario('ext4-from-qemu', image, fixture.checksums, series === KERNEL_SERIES.at(-1) ? 'usr' : 'usr/share');

    expect(await judgeExt4Image(`${image}.after`, `${image}.after.sha256`)).toEqual([]);
  });

  test('an ext4 that the guest made in an image of corral create is read by QEMU', async () => {
    const image = join(shared, `corral-${series}.qcow2`);
    await run(process.execPath, [join(repository, 'dist/host/cli/main.js'), 'create', image, '2G']);

    await scenario('ext4-from-corral', image, fixture.archive, fixture.checksums);

    expect(await judgeExt4Image(`${image}.after`, fixture.checksums)).toEqual([]);
  });

  test('an xfs is made, filled, repaired without a finding, and read again', async () => {
    const outcome = await scenario('xfs', fixture.archive, fixture.checksums);

    expect(outcome.output).toContain(`${fixture.fileCount} files have their checksums`);
  });

  test('what the guest trims and zeroes goes back to the host', async () => {
    const after = join(shared, `trimmed-${series}.qcow2`);

    const outcome = await scenario('trim', fixture.archive, after);

    expect(outcome.output).toContain('read as zeros');
    await run('qemu-img', ['check', '-q', after]);
  });

  test.each(['TERM', 'INT'])('SIG%s with writes in flight loses nothing that was durable', async (signal) => {
    const outcome = await scenario('stop-under-load', signal);

    expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
  });

  test('attach says in one line why it cannot', async () => {
    await scenario('refusals');
  });

  test('twenty devices, one after the other, leave nothing behind', async () => {
    await scenario('twenty-times');
  });
});
