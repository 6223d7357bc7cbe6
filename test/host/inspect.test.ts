import { expect, test } from 'vitest';
import { mutate } from '../../fuzz/mutation/mutate.js';
import { makeOwnOriginals, type Original } from '../../fuzz/mutation/originals.js';
import { InstancePool } from '../../fuzz/mutation/reused-instances.js';
import { Random } from '../../fuzz/simulator/random.js';
import { CorralError, Image, type InspectReport, inspect, MemoryFile, parsePolicy } from '../../host/index.js';
import type { RuleId } from '../../host/inspect/rules.js';
import { loadCore } from '../../host/node/index.js';

async function newDisk(): Promise<MemoryFile> {
  const file = new MemoryFile();
  await Image.create(file, { core: loadCore(), virtualSize: 2 ** 20 });
  return file;
}

function statusOf(report: InspectReport, rule: RuleId): string | undefined {
  return report.checks.find(({ id }) => id === rule)?.status;
}

/** A file whose reads behind `from` end like this. */
class BrokenFile extends MemoryFile {
  constructor(
    contents: Uint8Array,
    private readonly from: number,
    private readonly error: Error,
  ) {
    super(contents, true);
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    if (offset >= this.from) throw this.error;
    await super.read(offset, target);
  }
}

test('a new image is accepted by every policy', async () => {
  const file = await newDisk();

  for (const policy of ['upload', 'strict', 'openstack', 'forensic'] as const) {
    const report = await inspect(file, { core: loadCore(), policy, depth: 'full' });

    expect(report.verdict, policy).toEqual({ result: 'accept', failed: [], incomplete: [] });
  }
});

test('rules of later depths are skipped, not passed', async () => {
  const report = await inspect(await newDisk(), { core: loadCore(), depth: 'header' });

  expect(statusOf(report, 'ref.backing-file')).toBe('pass');
  expect(statusOf(report, 'map.shared-cluster')).toBe('skip');
  expect(statusOf(report, 'content.nested-format')).toBe('skip');
});

test('an empty file is raw, and strict does not take it', async () => {
  const report = await inspect(new MemoryFile(), { core: loadCore(), policy: 'strict' });

  expect(report.format.name).toBe('raw');
  expect(report.verdict.result).toBe('reject');
  expect(statusOf(report, 'format.raw-fallback')).toBe('fail');
});

test('a read error makes the inspection incomplete', async () => {
  const contents = (await newDisk()).contents();
  const file = new BrokenFile(contents, 65536, new Error('EIO'));

  const report = await inspect(file, { core: loadCore() });

  expect(report.verdict).toEqual({ result: 'incomplete', failed: [], incomplete: ['inspect.read-error'] });
});

test('a mistake of the inspector rejects', async () => {
  const now = (): number => {
    throw new TypeError('a mistake');
  };
  let calls = 0;

  const report = await inspect(await newDisk(), { core: loadCore(), now: () => (calls++ === 0 ? 0 : now()) });

  expect(report.verdict.result).toBe('reject');
  expect(report.verdict.failed).toEqual(['inspect.internal-error']);
});

test('an image whose tables cannot be counted is not accepted', async () => {
  const contents = (await newDisk()).contents();
  const file = new MemoryFile(contents, true);
  const small = { maxClusters: 1 };

  const report = await inspect(file, { core: loadCore(), limits: small });

  expect(report.verdict).toEqual({ result: 'incomplete', failed: [], incomplete: ['limit.clusters'] });
});

test('an aborted signal rejects with ERR_CANCELLED, and gives no report', async () => {
  const controller = new AbortController();
  const file = await newDisk();
  let reads = 0;
  const aborting = Object.assign(Object.create(file) as MemoryFile, {
    async read(offset: number, target: Uint8Array): Promise<void> {
      if (++reads === 3) controller.abort();
      await file.read(offset, target);
    },
  });

  const report = inspect(aborting, { core: loadCore(), signal: controller.signal });

  await expect(report).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
  expect(reads).toBe(3);
});

test('nothing is read behind what was counted', async () => {
  const report = await inspect(await newDisk(), { core: loadCore(), limits: { maxRead: 1000 } });

  expect(report.verdict.result).toBe('incomplete');
  expect(Number(report.resources.bytesRead)).toBeLessThanOrEqual(1000);
});

test('a policy from a file changes severities, formats and limits', async () => {
  const policy = parsePolicy(
    '{"base":"strict","name":"ours","formats":["raw"],"failOn":"critical","severities":{"format.banned":"critical"}}',
  );

  const report = await inspect(await newDisk(), { core: loadCore(), policy });

  expect(report.options).toMatchObject({ policy: 'ours', failOn: 'critical' });
  expect(report.verdict.failed).toEqual(['format.banned']);
});

test.each([
  '',
  '[]',
  '{"base":"none"}',
  '{"failon":"high"}',
  '{"failOn":"worst"}',
  '{"formats":["qcow3"]}',
  '{"severities":{"ref.backing":"low"}}',
  '{"severities":{"ref.backing-file":"harmless"}}',
  '{"maxVirtualSize":-1}',
])('a policy that makes no sense is refused: %s', (text) => {
  expect(() => parsePolicy(text)).toThrow(CorralError);
});

test('the mutation fuzzer, which uses instances again, gets the reports of fresh ones', async () => {
  const core = loadCore();
  const originals = await makeOwnOriginals(core);
  const pool = new InstancePool(core);
  const random = new Random(1);
  const look = (bytes: Uint8Array): Promise<InspectReport> =>
    inspect(new MemoryFile(bytes, true), { core, policy: 'forensic', depth: 'full' });

  for (let count = 0; count < 60; count++) {
    const { bytes: original, layout } = originals[count % 18] as Original;
    const { bytes } = mutate(random, original, layout);
    const fresh = await look(bytes);
    pool.lend();
    const again = await look(bytes).finally(() => pool.release());

    expect(again).toEqual(fresh);
  }
});
