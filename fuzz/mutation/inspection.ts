/** What `inspect` says of one mutant, and whether QEMU agrees where that is to accept it. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from '../../host/inspect/inspect.js';
import type { InspectReport } from '../../host/inspect/report.js';
import { MemoryFile } from '../../host/memory-file.js';
import { mutantCodec } from './codec.js';
import { Failure } from './trial.js';

/** Milliseconds after which an inspection counts as hanging. */
const TIME_LIMIT = 20_000;
/** qemu-img's status for lost clusters and nothing worse. */
const LEAKS_ONLY = 3;

/** Verdicts so far, and how many of the accepted ones QEMU was asked about. */
export class Verdicts {
  accept = 0;
  reject = 0;
  incomplete = 0;
  judged = 0;
}

/** Inspects mutants in memory; those that are to be judged lie in a temporary file. */
export class Inspection {
  readonly verdicts = new Verdicts();
  private readonly folder = mkdtempSync(join(tmpdir(), 'corral-inspect-'));

  /** QEMU is asked about every `judgeEvery`th accepted mutant. */
  constructor(private readonly judgeEvery: number) {}

  /** Throws `Failure`. */
  async tryMutant(core: WebAssembly.Module, bytes: Uint8Array): Promise<void> {
    const start = performance.now();
    const report = await inspect(new MemoryFile(bytes, true), {
      core,
      policy: 'forensic',
      depth: 'full',
      codec: mutantCodec,
      limits: { maxTime: TIME_LIMIT / 2 },
    });
    const taken = performance.now() - start;
    if (taken > TIME_LIMIT) throw new Failure(`the inspection took ${Math.round(taken)} ms`);
    const { result, failed } = report.verdict;
    if (failed.includes('inspect.internal-error')) throw new Failure('the inspector made a mistake');
    const count = ++this.verdicts[result];
    if (result === 'accept' && count % this.judgeEvery === 0) this.judge(bytes, report);
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What is accepted opens, and has no errors. What an image names is not there: no check gets beyond that. */
  private judge(bytes: Uint8Array, { format, references }: InspectReport): void {
    const path = join(this.folder, 'image');
    writeFileSync(path, bytes);
    this.verdicts.judged++;
    const opened = qemuImg(['info', '-f', format.name, path]);
    if (opened.status !== 0) throw new Failure(`accepted, but qemu-img info says: ${opened.stderr}`);
    if (format.name !== 'qcow2' || references.length > 0) return;
    const checked = qemuImg(['check', '-f', 'qcow2', path]);
    if (checked.status !== 0 && checked.status !== LEAKS_ONLY) {
      throw new Failure(`accepted, but qemu-img check says: ${checked.stdout}${checked.stderr}`);
    }
  }
}

function qemuImg(args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr, error } = spawnSync('qemu-img', args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}
