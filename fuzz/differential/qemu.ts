/** QEMU's tools, as one of the two engines. */

import { type ExecFileException, execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { noisePath } from './noise.js';
import { type AmendChange, type BitmapStep, NOISE, type Step } from './plan.js';

const execute = promisify(execFile);
/** Long enough for a machine that does other things. */
const TIMEOUT = 120_000;

/** One entry of `qemu-img map --output json`. */
export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly compressed: boolean;
  readonly offset?: number;
}

/** What it printed; throws with that when it failed, also when `qemu-io` only says so. */
export async function runTool(program: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout, stderr } = await execute(program, [...args], { timeout: TIMEOUT, maxBuffer: 1 << 28 });
    if (program === 'qemu-io' && /failed|[Ii]nvalid|rror/.test(stdout + stderr))
      throw new Error((stdout + stderr).replace(/^(wrote|discard) .*\n.*ops.*\n/gm, ''));
    return stdout;
  } catch (error) {
    const { stdout = '', stderr = '', killed, message } = error as ExecFileException;
    if (killed) throw new Error(`${program}: took over ${TIMEOUT / 1000} s: ${args.join(' ')}`);
    throw new Error(`${program}: ${stdout}${stderr}${stdout + stderr === '' ? message : ''}`.trim());
  }
}

/** Guest steps in one process as long as they follow each other; the others are commands of their own. */
export async function performByQemu(path: string, steps: readonly Step[]): Promise<void> {
  let commands: string[] = [];
  const runCommands = async () => {
    if (commands.length === 0) return;
    await runTool('qemu-io', ['-f', 'qcow2', '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), path]);
    commands = [];
  };
  for (const step of steps) {
    const wanted = guestCommands(step, path);
    // QEMU goes on behind the last compressed cluster even when its host cluster has become somebody else's since.
    if (step.kind === 'compressed') await runCommands();
    if (wanted !== undefined) {
      commands.push(...wanted);
    } else {
      await runCommands();
      await runTool('qemu-img', controlArguments(step, path));
    }
  }
  await runCommands();
}

/** The whole disk, or a snapshot of it. */
export async function readByQemu(path: string, snapshot?: string): Promise<Uint8Array> {
  const raw = `${path}.raw`;
  const selected = snapshot === undefined ? [] : ['-l', `snapshot.name=${snapshot}`];
  await runTool('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', ...selected, path, raw]);
  return readFile(raw);
}

export async function mapByQemu(path: string): Promise<MapEntry[]> {
  return JSON.parse(await runTool('qemu-img', ['map', '-f', 'qcow2', '--output=json', path]));
}

/** Throws unless there are neither errors nor leaks. */
export async function checkByQemu(path: string): Promise<void> {
  await runTool('qemu-img', ['check', '-f', 'qcow2', path]);
}

function guestCommands(step: Step, path: string): string[] | undefined {
  const source =
    'value' in step && step.value === NOISE ? `-s ${noisePath(path)}` : `-P ${'value' in step && step.value}`;
  switch (step.kind) {
    case 'write':
      return [`write ${source} ${step.offset} ${step.length}`];
    case 'compressed':
      // Refused where something is allocated.
      return [`discard ${step.offset} ${step.length}`, `write -c ${source} ${step.offset} ${step.length}`];
    case 'zero':
      return [`write -z ${step.offset} ${step.length}`];
    case 'unmap':
      return [`write -z -u ${step.offset} ${step.length}`];
    case 'discard':
      return [`discard ${step.offset} ${step.length}`];
    case 'flush':
      return ['flush'];
    case 'reopen':
      return [];
    default:
      return undefined;
  }
}

function controlArguments(step: Step, path: string): string[] {
  switch (step.kind) {
    case 'snapshot':
      return ['snapshot', '-c', step.name, path];
    case 'apply':
      return ['snapshot', '-a', step.name, path];
    case 'delete':
      return ['snapshot', '-d', step.name, path];
    case 'resize':
      return ['resize', '-q', '--shrink', '-f', 'qcow2', path, String(step.size)];
    case 'amend':
      return ['amend', '-q', '-f', 'qcow2', '-o', amendOption(step.change), path];
    case 'bitmap':
      return ['bitmap', ...bitmapOptions(step), '-f', 'qcow2', path, step.name];
    default:
      throw new Error(`no ${step.kind} here`);
  }
}

function amendOption(change: AmendChange): string {
  if ('compat' in change) return `compat=${change.compat}`;
  if ('refcountBits' in change) return `refcount_bits=${change.refcountBits}`;
  return `lazy_refcounts=${change.lazyRefcounts ? 'on' : 'off'}`;
}

function bitmapOptions(step: BitmapStep): string[] {
  if (step.verb === 'add') return ['--add', '-g', String(step.granularity)];
  return step.verb === 'merge' ? ['--merge', step.source] : [`--${step.verb}`];
}
