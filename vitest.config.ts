/**
 * The tests. Their own sources are TypeScript; what they test is what is shipped: an import of `host/…` or `fuzz/…`
 * from a test leads to dist/, so that workers, the core and the addon are found where a user's program finds them.
 */
import { existsSync, statfsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import type { Plugin } from 'vitest/config';
import { defineConfig } from 'vitest/config';
import { LAYERS } from './.tools/layers.mjs';
import { pathWithQemu } from './.tools/lib/qemu.mjs';

const root = import.meta.dirname;
/** The kernel's magic number of the file system in memory. */
const TMPFS = 0x01021994;
/** Bytes: far more than all tests of a layer have at one time. */
const ENOUGH = 2 ** 32;

const testWhatIsBuilt: Plugin = {
  name: 'test-what-is-built',
  enforce: 'pre',
  resolveId(source, importer) {
    if (importer === undefined || !source.startsWith('.')) return undefined;
    const path = relative(root, resolve(dirname(importer), source));
    return /^(host|fuzz|browser)\/.*\.js$/.test(path) ? { id: join(root, 'dist', path), external: true } : undefined;
  },
};

/** Where there is one that is large enough: what has to reach a disk there does so at once. */
function memoryFolder(): { TMPDIR?: string } {
  const folder = '/dev/shm';
  if (!existsSync(folder)) return {};
  const { bavail, bsize, type } = statfsSync(folder);
  return type === TMPFS && bavail * bsize > ENOUGH ? { TMPDIR: folder } : {};
}

export default defineConfig({
  plugins: [testWhatIsBuilt],
  test: {
    projects: LAYERS.map(({ name, include, seconds, workers, setup, memory }) => ({
      extends: true as const,
      test: {
        name,
        include,
        pool: 'forks' as const,
        // vitest leaves one processor free, which on two is one file at a time.
        maxWorkers: workers ?? availableParallelism(),
        globalSetup: ['.tools/vitest-setup.mjs', ...(setup ?? [])],
        testTimeout: seconds * 1000,
        hookTimeout: seconds * 1000,
        env: { PATH: pathWithQemu(), ...(memory ? memoryFolder() : {}) },
        server: { deps: { external: [/\/dist\/(host|fuzz|browser)\//] } },
      },
    })),
  },
});
