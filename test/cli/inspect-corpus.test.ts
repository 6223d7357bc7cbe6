import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import Ajv from 'ajv';
import { beforeAll, expect, test } from 'vitest';
import { formatJson, type Json } from '../../host/cli/output.js';
import { type InspectOptions, type InspectReport, inspect, MemoryFile } from '../../host/index.js';
import { RULE_IDS, type RuleId } from '../../host/inspect/rules.js';
import { sarifOf } from '../../host/inspect/sarif.js';
import { loadCore } from '../../host/node/index.js';
import { temporaryFolder } from '../temporary-folder.js';
import { qemuImg } from './run-corral.js';
import { sourceOf, type UntrustedImage, untrustedImages } from './untrusted-images.js';

/** The table that the public can read. */
const TABLE = join(import.meta.dirname, '../../host/inspect/README.md');

let corpus: UntrustedImage[];

beforeAll(() => {
  corpus = untrustedImages();
}, 120_000);

function look(bytes: Buffer, options: Partial<InspectOptions> = {}): Promise<InspectReport> {
  return inspect(new MemoryFile(Uint8Array.from(bytes), true), { core: loadCore(), ...options });
}

function found(report: InspectReport, rule: RuleId): boolean {
  return report.checks.some(({ id, count }) => id === rule && count > 0);
}

/** Whether qemu-img opens it, with the format that ours says it has. */
function qemuOpens(bytes: Buffer, format: string): boolean {
  const path = join(temporaryFolder(), 'image');
  writeFileSync(path, bytes);
  return qemuImg(['info', '-f', QEMU_NAMES[format] ?? format, path]).status === 0;
}

const QEMU_NAMES: Readonly<Record<string, string>> = { vhd: 'vpc', iso: 'raw' };

test('every rule that an image can break has an image in the corpus', () => {
  const covered = new Set(corpus.map(({ rule }) => rule));
  // Those are about the host, not about an image: other tests show them.
  const others: readonly RuleId[] = ['inspect.read-error', 'inspect.internal-error', 'inspect.unsupported'];

  expect(RULE_IDS.filter((id) => !covered.has(id) && !others.includes(id))).toEqual([]);
});

test('each image is found out, and its twin is not', async () => {
  const complaints: string[] = [];

  for (const { rule, name, bytes, twin, options, twinOptions = options } of corpus) {
    if (!found(await look(bytes, options), rule)) complaints.push(`${name}: ${rule} was not found`);
    if (found(await look(twin, twinOptions), rule)) complaints.push(`${name}: ${rule} was found in the twin`);
  }

  expect(complaints).toEqual([]);
});

test('no image makes the inspector err', async () => {
  for (const { name, bytes, options } of corpus) {
    expect(found(await look(bytes, options), 'inspect.internal-error'), name).toBe(false);
  }
});

/** Says what is wrong with a log, by the schema of SARIF 2.1.0. */
function sarifJudge(): (log: unknown) => string {
  const require = createRequire(import.meta.url);
  const ajv = new Ajv({ schemaId: 'id', meta: false, unknownFormats: ['uri-reference', 'uri'] });
  ajv.addMetaSchema(require('ajv/lib/refs/json-schema-draft-04.json'));
  const validate = ajv.compile(require('@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json'));
  return (log) => (validate(log) ? '' : ajv.errorsText(validate.errors));
}

test('the report of each image is a log of SARIF 2.1.0', async () => {
  const judge = sarifJudge();
  const complaints: string[] = [];

  for (const { name, bytes, options } of corpus) {
    const log = sarifOf(await look(bytes, { ...options, depth: 'full' }), '1.0', `a folder/${name}#?`);
    const fault = judge(JSON.parse(formatJson(log as Json)));
    if (fault !== '') complaints.push(`${name}: ${fault}`);
  }

  expect(complaints).toEqual([]);
  expect(judge({ version: '2.1.0', runs: [{ results: [] }] })).toMatch(/tool/);
});

test('findings that end an inspection never let it accept', async () => {
  const incomplete = corpus.filter(({ rule }) => rule.startsWith('limit.'));

  for (const { name, bytes, options } of incomplete) {
    expect((await look(bytes, options)).verdict.result, name).toBe('incomplete');
  }
  expect(incomplete.length).toBeGreaterThan(3);
});

test('what is accepted opens in qemu-img, and passes its check', async () => {
  let accepted = 0;

  for (const { rule, name, bytes, options } of corpus) {
    for (const policy of ['upload', 'forensic'] as const) {
      const report = await look(bytes, { ...options, policy, depth: 'full' });
      if (report.verdict.result !== 'accept') continue;
      accepted++;
      expect(qemuOpens(bytes, report.format.name), `${name} opens`).toBe(true);
      if (report.format.name !== 'qcow2' || report.references.length > 0) continue;
      // QEMU would make the key for hours.
      if (rule === 'crypt.kdf-cost') continue;
      const path = join(temporaryFolder(), 'image.qcow2');
      writeFileSync(path, bytes);
      // 3: leaks only.
      const checked = qemuImg(['check', ...sourceOf(path, report.encryption?.method)]).status;
      expect([0, 3], `${name} passes`).toContain(checked);
    }
  }

  expect(accepted).toBeGreaterThan(10);
});

test('the table of images says what corral and qemu-img answer', async () => {
  const rows: string[] = [];
  for (const { rule, name, bytes, options } of corpus) {
    const { verdict, format } = await look(bytes, options);
    const qemu = qemuOpens(bytes, format.name) ? 'opens' : 'refuses';
    rows.push(`| ${name} | \`${rule}\` | ${verdict.result} | ${qemu} |`);
  }

  const table = readFileSync(TABLE, 'utf8')
    .split('\n')
    .filter((line) => /^\|.*\| (opens|refuses) +\|$/.test(line))
    .map((line) => line.replace(/ +\|/g, ' |').replace(/\| +/g, '| '));

  expect(table).toEqual(rows);
});
