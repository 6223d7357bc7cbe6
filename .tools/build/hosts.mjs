/** The hosts, the browser's half and the simulator: tsc lays them out below dist/ as they lie in the repository. */
import { chmodSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root, sourceFiles } from '../lib/repository.mjs';
import { capture, packageScript } from '../lib/run.mjs';
import { StageError } from '../lib/stage.mjs';

const FOLDERS = ['host', 'browser', 'fuzz'];
const BUILD_STATE = '.cache/tsc-build.tsbuildinfo';
const COMMANDS = ['dist/host/cli/main.js', 'dist/host/cli/io/main.js'];

/** tsc wrote every file, but found type errors. */
export class TypeErrors extends StageError {}

/** @returns {import('../lib/stage.mjs').Stage} */
export function hostsStage() {
  const sources = sourceFiles(FOLDERS, ['.ts']);
  const outputs = sources
    .filter((path) => !path.endsWith('.d.ts'))
    .map((path) => join('dist', path.replace(/\.ts$/, '.js')));
  return {
    name: 'hosts',
    inputs: ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json', ...sources],
    outputs,
    async run() {
      removeOrphans(outputs);
      // tsc trusts its own notes and would not write again what somebody deleted.
      if (outputs.some((path) => !existsSync(join(root, path)))) rmSync(join(root, BUILD_STATE), { force: true });
      const result = await capture(process.execPath, [packageScript('typescript', 'tsc'), '-p', 'tsconfig.build.json']);
      for (const command of COMMANDS) {
        if (outputs.includes(command) && existsSync(join(root, command))) chmodSync(join(root, command), 0o755);
      }
      if (result.status !== 0) throw new TypeErrors(result.output);
    },
  };
}

/**
 * Removes what was built from sources that are gone: an import of it must fail.
 *
 * @param {string[]} outputs
 */
function removeOrphans(outputs) {
  const expected = new Set(outputs.map((path) => path.replace(/\.js$/, '')));
  const folders = FOLDERS.map((folder) => join('dist', folder));
  for (const path of sourceFiles(folders, ['.js', '.js.map', '.d.ts'])) {
    if (!expected.has(path.replace(/\.(js|js\.map|d\.ts)$/, ''))) rmSync(join(root, path));
  }
}
