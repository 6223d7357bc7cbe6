/**
 * The tests. Their own sources are TypeScript; what they test is what is shipped: an import of `host/…` or `fuzz/…`
 * from a test leads to dist/, so that workers, the core and the addon are found where a user's program finds them.
 */
import { dirname, join, relative, resolve } from 'node:path';
import type { Plugin } from 'vitest/config';
import { defineConfig } from 'vitest/config';
import { LAYERS } from './.tools/layers.mjs';
import { pathWithQemu } from './.tools/lib/qemu.mjs';

const root = import.meta.dirname;

const testWhatIsBuilt: Plugin = {
  name: 'test-what-is-built',
  enforce: 'pre',
  resolveId(source, importer) {
    if (importer === undefined || !source.startsWith('.')) return undefined;
    const path = relative(root, resolve(dirname(importer), source));
    return /^(host|fuzz|browser)\/.*\.js$/.test(path) ? { id: join(root, 'dist', path), external: true } : undefined;
  },
};

export default defineConfig({
  plugins: [testWhatIsBuilt],
  test: {
    projects: LAYERS.map(({ name, include, seconds, workers, setup }) => ({
      extends: true as const,
      test: {
        name,
        include,
        pool: 'forks' as const,
        ...(workers === undefined ? {} : { maxWorkers: workers }),
        globalSetup: ['.tools/vitest-setup.mjs', ...(setup ?? [])],
        testTimeout: seconds * 1000,
        hookTimeout: seconds * 1000,
        env: { PATH: pathWithQemu() },
        server: { deps: { external: [/\/dist\/(host|fuzz|browser)\//] } },
      },
    })),
  },
});
