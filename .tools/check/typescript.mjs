/** The hosts and everything else that tsc reads, and that the portable half runs without Node. */
import { isAbsolute, relative } from 'node:path';
import { weighLibrary } from '../build/browser.mjs';
import { root, sourceFiles } from '../lib/repository.mjs';
import { capture, packageScript } from '../lib/run.mjs';
import { CheckError, requireSeen } from './step.mjs';

export async function checkTypes() {
  const expected = [
    ...sourceFiles(['host', 'browser', 'fuzz', 'test'], ['.ts']),
    ...sourceFiles(['.tools'], ['.mjs']),
    'vitest.config.ts',
  ];
  return checkProject('tsconfig.json', expected);
}

/** Without Node's types, `Buffer` and `process` are unknown names. */
export async function checkPortableTypes() {
  const portable = sourceFiles(['host'], ['.ts']).filter((path) => !/^host\/(node|nbd|cli)\//.test(path));
  return checkProject('tsconfig.portable.json', [...portable, ...sourceFiles(['browser'], ['.ts'])]);
}

/**
 * @param {string} project
 * @param {string[]} expected files that it must cover
 */
async function checkProject(project, expected) {
  const tsc = packageScript('typescript', 'tsc');
  const { status, output } = await capture(process.execPath, [tsc, '-p', project, '--noEmit', '--listFiles']);
  const lines = output.split('\n');
  if (status !== 0) throw new CheckError(lines.filter((line) => !isAbsolute(line)).join('\n'));
  const seen = lines.map((path) => relative(root, path));
  requireSeen(`tsc -p ${project}`, seen, expected);
  return `${expected.length} files`;
}

/** The browser's library must become one file, with nothing left to resolve, that is not too heavy. */
export async function checkBrowserBundle() {
  try {
    return await weighLibrary();
  } catch (error) {
    throw new CheckError(/** @type {Error} */ (error).message);
  }
}
