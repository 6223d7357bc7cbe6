/** What `inspect` says of one mutant, and whether QEMU agrees where that is to accept it. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from '../../host/inspect/inspect.js';
import type { InspectReport } from '../../host/inspect/report.js';
import { MemoryFile } from '../../host/memory-file.js';
import { mutantCodec } from './codec.js';
import { InstancePool } from './reused-instances.js';
import { Failure } from './trial.js';

/** Milliseconds of processor time after which an inspection counts as hanging: the clock goes on while others have the processor. */
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
  private readonly pools = new Map<WebAssembly.Module, InstancePool>();
  private readonly folder = mkdtempSync(join(tmpdir(), 'corral-inspect-'));

  /** QEMU is asked about every `judgeEvery`th accepted mutant. */
  constructor(private readonly judgeEvery: number) {}

  /** Throws `Failure`. `fresh`: in instances that nobody has used. */
  async tryMutant(core: WebAssembly.Module, bytes: Uint8Array, fresh: boolean): Promise<void> {
    const start = processorTime();
    const report = await (fresh ? look(core, bytes) : this.lookAgain(core, bytes));
    const taken = processorTime() - start;
    if (taken > TIME_LIMIT) throw new Failure(`the inspection took ${Math.round(taken)} ms`);
    const { result, failed } = report.verdict;
    if (failed.includes('inspect.internal-error')) throw new Failure('the inspector made a mistake');
    const count = ++this.verdicts[result];
    if (result === 'accept' && count % this.judgeEvery === 0) this.judge(bytes, report);
  }

  /** In instances that have seen other mutants. After a failure nobody knows who still uses them. */
  private async lookAgain(core: WebAssembly.Module, bytes: Uint8Array): Promise<InspectReport> {
    const pool = this.pools.get(core) ?? new InstancePool(core);
    this.pools.delete(core);
    pool.lend();
    try {
      const report = await look(core, bytes);
      this.pools.set(core, pool);
      return report;
    } finally {
      pool.release();
    }
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What is accepted opens, and has no errors. What an image names is not there: no check gets beyond that. */
  private judge(bytes: Uint8Array, { format, references, encryption }: InspectReport): void {
    const path = join(this.folder, 'image');
    writeFileSync(path, bytes);
    this.verdicts.judged++;
    const opened = qemuImg(['info', '-f', format.name, path]);
    if (opened.status !== 0) throw new Failure(`accepted, but qemu-img info says: ${opened.stderr}`);
    if (format.name !== 'qcow2' || references.length > 0) return;
    const checked = qemuImg(['check', ...(encryption === undefined ? ['-f', 'qcow2', path] : withKey(path))]);
    if (checked.status !== 0 && checked.status !== LEAKS_ONLY) {
      throw new Failure(`accepted, but qemu-img check says: ${checked.stdout}${checked.stderr}`);
    }
  }
}

/** QEMU checks encrypted images only for those who have a key. None of the originals has a LUKS header: any key will do. */
function withKey(path: string): string[] {
  const options = `driver=qcow2,encrypt.format=aes,encrypt.key-secret=key,file.filename=${path}`;
  return ['--object', 'secret,id=key,data=any', '--image-opts', options];
}

function look(core: WebAssembly.Module, bytes: Uint8Array): Promise<InspectReport> {
  return inspect(new MemoryFile(bytes, true), {
    core,
    policy: 'forensic',
    depth: 'full',
    codec: mutantCodec,
    limits: { maxTime: TIME_LIMIT / 2 },
    now: processorTime,
  });
}

/** Milliseconds that this process has had. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function qemuImg(args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr, error } = spawnSync('qemu-img', args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}
