/** Running the built command, in a process of its own or in this one, and qemu-img beside it. */

import { execFile, type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { run } from '../../host/cli/program.js';

/** The command as it is shipped. */
export const MAIN = join(import.meta.dirname, '../../dist/host/cli/main.js');

export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** `corral ARGS` as a process. */
export function corral(args: readonly string[], options: SpawnSyncOptions = {}): Outcome {
  return spawn(process.execPath, [MAIN, ...args], options);
}

/** `qemu-img ARGS`. */
export function qemuImg(args: readonly string[], options: SpawnSyncOptions = {}): Outcome {
  return spawn('qemu-img', args, options);
}

/** The same while this process goes on. */
export function qemuImgBeside(args: readonly string[], options: { cwd: string }): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile('qemu-img', args, { ...options, timeout: 60_000 }, (_, stdout, stderr) => {
      resolve({ status: child.exitCode, stdout, stderr });
    });
    child.stdin?.end();
  });
}

/** qemu-img for making and judging things: it has to succeed. */
export function mustQemuImg(...args: string[]): string {
  const { status, stdout, stderr } = qemuImg(args);
  if (status !== 0) throw new Error(`qemu-img ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** Commands of qemu-io on a qcow2 image. */
export function qemuIo(path: string, ...commands: string[]): void {
  const { status, stdout, stderr } = spawn('qemu-io', [
    '-f',
    'qcow2',
    ...commands.flatMap((command) => ['-c', command]),
    path,
  ]);
  if (status !== 0 || /fail|error/i.test(stdout + stderr)) throw new Error(stdout + stderr);
}

/** `corral ARGS` in this process: the same code without the start of a process. */
export function corralHere(...args: string[]): Promise<Outcome> {
  return runHere('corral', args);
}

/** The same, called by this name. */
export async function runHere(program: string, args: readonly string[]): Promise<Outcome> {
  const outcome: Outcome = { status: null, stdout: '', stderr: '' };
  outcome.status = await run(args, {
    program,
    print: (text) => {
      outcome.stdout += text;
    },
    complain: (line) => {
      outcome.stderr += `${program}: ${line}\n`;
    },
    note: (line) => {
      outcome.stderr += `${line}\n`;
    },
  });
  return outcome;
}

function spawn(program: string, args: readonly string[], options: SpawnSyncOptions = {}): Outcome {
  const result = spawnSync(program, args, { maxBuffer: 1 << 28, timeout: 60_000, ...options, encoding: 'utf8' });
  if (result.error !== undefined) throw result.error;
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}
