/** Builds what is out of date, then runs one script of the repository in its place. */
import { join } from 'node:path';
import { root } from './repository.mjs';
import { attach } from './run.mjs';

/**
 * @param {string[]} script its path from the root, and its arguments
 * @param {string[]} [buildOptions]
 * @returns {Promise<number>} the script's exit status, or the build's
 */
export async function runBuilt([path, ...args], buildOptions = []) {
  const build = join(root, '.tools/build.mjs');
  const built = await attach(process.execPath, [build, '--quiet', ...buildOptions], { stdin: 'ignore' });
  if (built !== 0) return built;
  return attach(process.execPath, [join(root, String(path)), ...args], { cwd: process.cwd() });
}
