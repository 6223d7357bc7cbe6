/** Runs qemu-img and our program with the same arguments on the same files, and compares everything that they leave. */

import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { mustQemuImg, type Outcome, qemuImgBeside, runHere } from './run-corral.js';

/** What is not compared, and why. */
export interface Allowance {
  /** Disk sizes depend on the file system's own blocks and on which clusters were written when. */
  readonly diskSize?: true;
  /** Where a tool puts clusters is its own affair. */
  readonly offsets?: true;
  /** How often progress is printed depends on the pieces in which work is done. */
  readonly progress?: true;
  /** Times. */
  readonly seconds?: true;
  /** A file that QEMU began to make is left when the command fails; ours is not. */
  readonly remains?: true;
}

/** Makes a folder with files for both. */
export type Setting = (folder: string) => void;

/** The same files for both tools: made once, by QEMU. */
export function settingOf(make: Setting): (name: string) => string {
  const original = mkdtempSync(join(tmpdir(), 'corral-'));
  beforeAll(() => make(original));
  afterAll(() => rmSync(original, { recursive: true }));
  return (name) => {
    const folder = join(temporaryFolder(), name);
    mkdirSync(folder);
    // Copies keep their holes.
    for (const file of readdirSync(original)) cpSync(join(original, file), join(folder, file));
    return folder;
  };
}

/** Both tools, each in a folder of its own of the same files. Says which lines differ. */
export async function expectSame(
  folderFor: (name: string) => string,
  args: readonly string[],
  allowance: Allowance = {},
): Promise<{ ours: string; theirs: string; status: number | null }> {
  const [ours, theirs] = [folderFor('a'), folderFor('b')];
  const beside = qemuImgBeside(args, { cwd: theirs });
  const mine = await inFolder(ours, args);
  const expected = await beside;
  expect(comparable(mine, allowance), args.join(' ')).toEqual(comparable(expected, allowance));
  const left =
    allowance.remains && expected.status !== 0 ? (name: string): boolean => existsSync(join(ours, name)) : () => true;
  expect(readdirSync(ours).sort(), args.join(' ')).toEqual(readdirSync(theirs).filter(left).sort());
  return { ours, theirs, status: mine.status };
}

async function inFolder(folder: string, args: readonly string[]): Promise<Outcome> {
  const before = process.cwd();
  process.chdir(folder);
  try {
    return await runHere('qemu-img', args);
  } finally {
    process.chdir(before);
  }
}

function comparable({ status, stdout, stderr }: Outcome, allowance: Allowance) {
  const lines = (text: string): string[] => text.split('\n').map((line) => normal(line, allowance));
  return { status, stdout: lines(stdout), stderr: lines(stderr) };
}

function normal(line: string, { diskSize, offsets, progress, seconds }: Allowance): string {
  let text = line;
  if (diskSize)
    text = text
      .replace(/(disk size: |"actual-size": ).*?(?=,?$)/, '$1…')
      .replace(/(file length: |"virtual-size": )\S.*?(?=,?$)/, '$1…');
  if (offsets)
    text = text.replace(/"offset": \d+/, '"offset": …').replace(/^(0x\w+ +0x\w+ +|0 +0x\w+ +)0x\w+ +/, '$1… ');
  if (progress) text = text.replace(/( {4}\(\d+\.\d\d\/100%\)\r)+/g, '…');
  if (seconds) text = text.replace(/[\d.]+ seconds/, '… seconds');
  return text;
}

/** The images of both hold the same disk, and QEMU finds nothing wrong with ours. */
export function expectSameDisk(ours: string, theirs: string, format = 'qcow2'): void {
  mustQemuImg('compare', '-f', format, '-F', format, ours, theirs);
  if (format === 'qcow2') mustQemuImg('check', '-f', 'qcow2', ours);
  expect(existsSync(ours) && statSync(ours).isFile()).toBe(true);
}
