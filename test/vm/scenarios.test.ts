import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkImage, type Fixture, judgeExt4Image, makeFixture } from './fixture.js';
import { ensureKernel, KERNEL_SERIES, type KernelSeries, repository } from './kernel.js';
import { Machine, type Outcome } from './machine.js';
import { scenarioScript } from './scenario.js';

const run = promisify(execFile);

/**
 * What a scenario may take before it counts as stuck. In an emulated machine on a busy one this is ten times what it
 * takes at best.
 */
const SCENARIO_SECONDS = 400;

let shared: string;
/** Thousands of files, hundreds of megabytes. */
let large: Fixture;
/** The same mixture, a fraction of it. */
let small: Fixture;

beforeAll(async () => {
  shared = await mkdtemp(join(tmpdir(), 'corral-scenarios-'));
  const make = async (name: string, fileCount: number, mebibytes: number): Promise<Fixture> => {
    await mkdir(join(shared, name));
    return makeFixture(join(shared, name), { fileCount, byteCount: mebibytes * 2 ** 20 });
  };
  large = await make('large', 4000, 350);
  small = await make('small', 1000, 80);
});

afterAll(async () => {
  await rm(shared, { recursive: true, force: true });
});

type Scenario = (name: string, ...args: readonly string[]) => Promise<Outcome>;

// What could differ from one driver to the next is tested on each; what does not is tested on one of them.
const ONLY_ON: Readonly<Record<KernelSeries, (scenario: Scenario) => void>> = {
  '6.12': (scenario) => {
    test('an overlay over a compressed base is read, changed and left in order, and so is its base', async () => {
      const [base, overlay] = [join(shared, 'base.qcow2'), join(shared, 'overlay.qcow2')];
      await run('qemu-img', ['convert', '-c', '-f', 'qcow2', '-O', 'qcow2', small.image, base]);
      await run('qemu-img', ['create', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', overlay], { cwd: shared });

      await scenario('overlay', overlay, base, small.checksums);

      expect(await judgeExt4Image(`${overlay}.after`, `${overlay}.after.sha256`)).toEqual([]);
      expect(await checkImage(base)).toEqual([]);
    });

    test('an xfs is made, filled, repaired without a finding, and read again', async () => {
      const outcome = await scenario('xfs', large.archive, large.checksums);

      expect(outcome.output).toContain(`${large.fileCount} files have their checksums`);
    });
  },

  '7.2': (scenario) => {
    test('an ext4 that the guest made in an image of corral create is read by QEMU', async () => {
      const image = join(shared, 'corral.qcow2');
      await run(process.execPath, [join(repository, 'dist/host/cli/main.js'), 'create', image, '2G']);

      await scenario('ext4-from-corral', image, large.archive, large.checksums);

      expect(await judgeExt4Image(`${image}.after`, large.checksums)).toEqual([]);
    });

    test('npm start makes a block device, or says why it is NBD, and what it says to type next works', async () => {
      await scenario('serve');
    });

    test('a server is not given an image that lies on its own device', async () => {
      await scenario('own-device');
    });

    test('twenty devices, one after the other, leave nothing behind', async () => {
      await scenario('many-times', '20');
    });
  },
};

describe.each(KERNEL_SERIES)('on Linux %s', (series) => {
  let machine: Machine;

  beforeAll(async () => {
    // Big enough for an image of half a GiB, what is written to it, and the guest's own caches.
    machine = await Machine.create(series, { shared, memoryMiB: 3072, scratchMiB: 2048 });
  });

  afterAll(async () => {
    await machine.close();
  });

  async function scenario(name: string, ...args: readonly string[]): Promise<Outcome> {
    const outcome = await machine.run(scenarioScript(name, ...args), { seconds: SCENARIO_SECONDS });
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
    const [fixture, copied] = series === KERNEL_SERIES.at(-1) ? [large, 'usr'] : [small, 'usr/share'];
    const image = join(shared, `qemu-${series}.qcow2`);
    await copyFile(fixture.image, image);

    await scenario('ext4-from-qemu', image, fixture.checksums, copied);

    expect(await judgeExt4Image(`${image}.after`, `${image}.after.sha256`)).toEqual([]);
  });

  test('what the guest trims and zeroes goes back to the host', async () => {
    const after = join(shared, `trimmed-${series}.qcow2`);

    const outcome = await scenario('trim', small.archive, after);

    expect(outcome.output).toContain('read as zeros');
    expect(await checkImage(after)).toEqual([]);
  });

  test.each(series === '6.12' ? ['TERM', 'INT'] : ['TERM'])(
    'SIG%s with writes in flight loses nothing that was durable',
    async (signal) => {
      const outcome = await scenario('stop-under-load', signal);

      expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
    },
  );

  test('SIGKILL with writes in flight ends the device and costs nothing that was durable', async () => {
    const outcome = await scenario('killed');

    expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
  });

  test('a server that is killed in the middle of writes is replaced, and nobody who writes sees an error', async () => {
    const outcome = await scenario('recovered', '3');

    expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
  });

  test('a device is looked after while its guest writes: snapshots, a longer disk, a flush, statistics', async () => {
    const outcome = await scenario('live', series === '6.12' ? 'stays' : 'grows');

    expect(outcome.output).toMatch(/\b[1-9]\d* blocks verified, 0 wrong/);
  });

  test('devices are as they are asked for, and several are of one process', async () => {
    await scenario('kinds');
  });

  test('attach says in one line why it cannot', async () => {
    await scenario('refusals');
  });

  test('doctor tells whether attach will work, and what is missing', async () => {
    await scenario('doctor');
  });

  ONLY_ON[series](scenario);
});
