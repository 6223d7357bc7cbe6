/** The native addon: native/*.cpp becomes dist/native/corral.node. Linux only; everything else works without it. */
import { copyFileSync, existsSync, mkdirSync, realpathSync, renameSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { root, sourceFiles } from '../lib/repository.mjs';
import { capture, findProgram, packageScript } from '../lib/run.mjs';
import { StageError } from '../lib/stage.mjs';

const OUTPUT = 'dist/native/corral.node';

/** @returns {import('../lib/stage.mjs').Stage | undefined} undefined where there is no addon */
export function addonStage() {
  const sources = sourceFiles(['native'], ['.cpp', '.hpp', '.h', '.gyp']);
  if (process.platform !== 'linux' || !sources.some((path) => path.endsWith('.cpp'))) return undefined;
  return {
    name: 'addon',
    inputs: ['package-lock.json', ...sources],
    outputs: [OUTPUT],
    environment: `${process.version} ${process.arch}`,
    run: buildAddon,
  };
}

/** The programs that node-gyp needs and this machine does not have. */
export function missingCompiler() {
  return [
    { name: 'python3', found: process.env.PYTHON ?? findProgram('python3') },
    { name: 'make', found: process.env.MAKE ?? findProgram('make') },
    { name: 'g++', found: process.env.CXX ?? findProgram('g++') },
  ]
    .filter(({ found }) => found === undefined)
    .map(({ name }) => name);
}

async function buildAddon() {
  const headers = installedHeaders();
  const args = ['configure', 'build', '--directory=native', '--jobs=max'];
  if (headers !== undefined) args.push(`--nodedir=${headers}`);
  // A warning of another compiler than ours must not keep a user from an addon.
  const env = process.env.CI === 'true' ? { ...process.env, CXXFLAGS: '-Werror' } : process.env;
  const result = await capture(process.execPath, [packageScript('node-gyp'), ...args], { env });
  const said = result.output.replace(/^gyp info .*\n/gm, '');
  if (result.status !== 0) throw new StageError(said);
  if (said.includes('warning:')) process.stderr.write(said);

  // Renamed into place: a process that has the old addon mapped keeps it.
  mkdirSync(join(root, dirname(OUTPUT)), { recursive: true });
  copyFileSync(join(root, 'native/build/Release/corral.node'), join(root, `${OUTPUT}.new`));
  renameSync(join(root, `${OUTPUT}.new`), join(root, OUTPUT));
}

/** The folder with Node's own headers when they were installed next to it; else node-gyp downloads them. */
function installedHeaders() {
  const prefix = resolve(dirname(realpathSync(process.execPath)), '..');
  return existsSync(join(prefix, 'include/node/node_api.h')) ? prefix : undefined;
}
