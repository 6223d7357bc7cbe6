/** Made once, before any virtual machine boots: the folder that all guests share, and files of this machine in it. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { type Fixture, makeFixture } from './fixture.js';

/** What the scenarios find there. */
export interface SharedFiles {
  readonly folder: string;
  /** Thousands of files, more than a hundred megabytes. */
  readonly large: Fixture;
  /** The same mixture, a fraction of it. */
  readonly small: Fixture;
}

declare module 'vitest' {
  export interface ProvidedContext {
    sharedFiles: SharedFiles;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'corral-scenarios-'));
  const make = async (name: string, fileCount: number, mebibytes: number): Promise<Fixture> => {
    await mkdir(join(folder, name));
    return makeFixture(join(folder, name), { fileCount, byteCount: mebibytes * 2 ** 20 });
  };
  const [large, small] = await Promise.all([make('large', 2500, 180), make('small', 600, 48)]);
  project.provide('sharedFiles', { folder, large, small });
  return () => rm(folder, { recursive: true, force: true });
}
