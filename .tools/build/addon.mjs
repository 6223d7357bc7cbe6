/**
 * The native addon and the sandbox's launcher: native/*.cpp becomes dist/native/corral.node, native/launcher/ becomes
 * dist/native/corral-sandbox. Linux only; everything else works without them.
 */
import { copyFileSync, existsSync, mkdirSync, realpathSync, renameSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { root, sourceFiles } from '../lib/repository.mjs';
import { capture, findProgram, packageScript } from '../lib/run.mjs';
import { StageError } from '../lib/stage.mjs';

const OUTPUT = 'dist/native/corral.node';
const LAUNCHER = 'dist/native/corral-sandbox';

/** @returns {import('../lib/stage.mjs').Stage | undefined} undefined where there is no addon */
export function addonStage() {
  const sources = sourceFiles(['native'], ['.cpp', '.hpp', '.h', '.gyp']);
  if (process.platform !== 'linux' || !sources.some((path) => path.endsWith('.cpp'))) return undefined;
  return {
    name: 'addon',
    inputs: ['package-lock.json', ...sources],
    outputs: [OUTPUT, LAUNCHER],
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

  // Renamed into place: a process that has the old ones mapped keeps them.
  mkdirSync(join(root, dirname(OUTPUT)), { recursive: true });
  for (const output of [OUTPUT, LAUNCHER]) {
    copyFileSync(join(root, 'native/build/Release', basename(output)), join(root, `${output}.new`));
    renameSync(join(root, `${output}.new`), join(root, output));
  }
}

/** The folder with Node's own headers when they were installed next to it; else node-gyp downloads them. */
function installedHeaders() {
  const prefix = resolve(dirname(realpathSync(process.execPath)), '..');
  return existsSync(join(prefix, 'include/node/node_api.h')) ? prefix : undefined;
}
