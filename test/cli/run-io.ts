/** The shell and qemu-io side by side: the same arguments on equal files. */

import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { runShell } from '../../host/cli/io/program.js';
import { temporaryFolder } from '../temporary-folder.js';
import { mustQemuImg, type Outcome, qemuImg } from './run-corral.js';

/** Files of the disks that the commands are about. */
export interface Disks {
  /** Makes them in a folder. */
  make(folder: string): void;
  /** Those that are compared afterwards, with their formats. */
  readonly compared: Readonly<Record<string, 'qcow2' | 'raw'>>;
}

/** 10 MiB, with some data. */
export const IMAGE: Disks = {
  make(folder) {
    mustQemuImg('create', '-q', '-f', 'qcow2', join(folder, 'disk'), '10M');
    mustQemuIo('-f', 'qcow2', '-c', 'write -P 1 64k 128k', '-c', 'write -z 3M 64k', join(folder, 'disk'));
  },
  compared: { disk: 'qcow2' },
};

/** 1 MiB. */
export const RAW: Disks = {
  make(folder) {
    writeFileSync(join(folder, 'disk'), Buffer.alloc(1 << 20, 7));
  },
  compared: { disk: 'raw' },
};

/** 3 MiB over 2 MiB. */
export const OVERLAY: Disks = {
  make(folder) {
    const base = join(folder, 'base');
    mustQemuImg('create', '-q', '-f', 'qcow2', base, '2M');
    mustQemuIo('-f', 'qcow2', '-c', 'write -P 1 0 320k', '-c', 'write -P 2 1M 100k', base);
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', join(folder, 'disk'), '3M');
    mustQemuIo('-f', 'qcow2', '-c', 'write -P 3 64k 10k', '-c', 'write -P 4 2500k 64k', join(folder, 'disk'));
  },
  compared: { disk: 'qcow2', base: 'qcow2' },
};

/** 1 MiB over as much, in clusters with subclusters, two of which are there. */
export const SUBCLUSTERS: Disks = {
  make(folder) {
    const [base, disk] = [join(folder, 'base'), join(folder, 'disk')];
    mustQemuImg('create', '-q', '-f', 'qcow2', base, '1M');
    mustQemuIo('-f', 'qcow2', '-c', 'write -P 1 0 128k', base);
    mustQemuImg('create', '-q', '-f', 'qcow2', '-o', 'extended_l2=on', '-b', 'base', '-F', 'qcow2', disk);
    mustQemuIo('-f', 'qcow2', '-c', 'write -P 2 28k 2k', '-c', 'write -P 3 34k 2k', disk);
  },
  compared: { disk: 'qcow2', base: 'qcow2' },
};

/** Files of disks that were made before, by their names. */
const made = new Map<Disks, Map<string, Buffer>>();

/** Puts the disks into a folder: QEMU makes them once, later they are copies. */
export function makeDisks(disks: Disks, folder: string): void {
  const known = made.get(disks);
  for (const [name, contents] of known ?? []) writeFileSync(join(folder, name), contents);
  if (known !== undefined) return;
  disks.make(folder);
  made.set(disks, new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))])));
}

function mustQemuIo(...args: string[]): void {
  const { status, stdout, stderr } = spawnSync('qemu-io', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stdout + stderr);
}

/** Runs `args`, in which `{}` is the folder of the disks, with both, and expects the same of them in all respects. */
export async function expectSame(disks: Disks, args: readonly string[], input = ''): Promise<Outcome> {
  const [ours, theirs] = [temporaryFolder(), temporaryFolder()];
  makeDisks(disks, ours);
  cpSync(ours, theirs, { recursive: true });

  const outcome = await shellHere(
    args.map((word) => word.replaceAll('{}', ours)),
    input,
  );

  const expected = qemuIoOutcome(
    args.map((word) => word.replaceAll('{}', theirs)),
    input,
  );
  expect(comparable(outcome, ours)).toEqual(comparable(expected, theirs));
  for (const [name, format] of Object.entries(disks.compared)) {
    const compared = qemuImg(['compare', '-f', format, '-F', format, join(ours, name), join(theirs, name)]);
    expect(compared.stdout).toBe('Images are identical.\n');
    if (format === 'qcow2') expect(qemuImg(['check', join(ours, name)]).status).toBe(0);
  }
  return outcome;
}

/** The shell in this process, called as qemu-io. */
export async function shellHere(args: readonly string[], input = ''): Promise<Outcome> {
  const outcome: Outcome = { status: null, stdout: '', stderr: '' };
  const output = {
    program: 'qemu-io',
    print: (text: string) => {
      outcome.stdout += text;
    },
    complain: (line: string) => {
      outcome.stderr += `qemu-io: ${line}\n`;
    },
    note: (line: string) => {
      outcome.stderr += `${line}\n`;
    },
  };
  outcome.status = await runShell(args, output, linesOf(input));
  return outcome;
}

function qemuIoOutcome(args: readonly string[], input: string): Outcome {
  const { status, stdout, stderr } = spawnSync('qemu-io', args, { input, encoding: 'utf8', timeout: 20_000 });
  return { status, stdout, stderr };
}

async function* linesOf(text: string): AsyncGenerator<string> {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  yield* lines;
}

/**
 * Without what is never the same twice: how long it took, and where the files are. Without our line about bytes that were
 * lost at the end: QEMU says nothing, or something else.
 */
function comparable({ status, stdout, stderr }: Outcome, folder: string): Outcome {
  const without = (text: string): string =>
    text
      .replaceAll(folder, '{}')
      .replace(/ops; .*ops\/sec\)/g, 'ops; TIME')
      .replace(/^qemu-io: Failed to flush .*\n/gm, '')
      .replace(/^(\d+,1),[\d:.,]+$/gm, '$1,TIME');
  return { status, stdout: without(stdout), stderr: without(stderr) };
}
