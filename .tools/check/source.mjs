/** Form and structure: Biome, dependency directions, dead code, where tests lie. */
import { join } from 'node:path';
import { root, sourceFiles } from '../lib/repository.mjs';
import { packageScript } from '../lib/run.mjs';
import { CheckError, mustPass, requireCount } from './step.mjs';

const LANGUAGES = ['.ts', '.mjs', '.cjs', '.js'];
const FOLDERS = ['assembly', 'host', 'browser', 'fuzz', 'test'];

/** Format, lint and order of imports, of both languages. */
export async function checkForm() {
  const expected = sourceFiles([...FOLDERS, '.tools'], LANGUAGES).length;
  const output = await mustPass(packageScript('@biomejs/biome', 'biome'), [
    'ci',
    '--error-on-warnings',
    '--colors=off',
    '--max-diagnostics=200',
    '.',
  ]);
  return `${requireCount('Biome', /Checked (\d+) files/.exec(output), expected)} files`;
}

/** The arrows of the architecture, see .dependency-cruiser.cjs. */
export async function checkDirections() {
  const folders = FOLDERS.filter((folder) => sourceFiles([folder], ['.ts']).length > 0);
  const output = await mustPass(packageScript('dependency-cruiser', 'depcruise'), [
    '--config',
    '.dependency-cruiser.cjs',
    ...folders,
  ]);
  const count = /\((\d+) modules, (\d+) dependencies/.exec(output);
  const modules = requireCount('dependency-cruiser', count, sourceFiles(FOLDERS, ['.ts']).length);
  // Every file has imports or importers; fewer arrows than files means that they are not followed.
  if (Number(count?.[2]) < modules) throw new CheckError(`dependency-cruiser followed only ${count?.[2]} imports`);
  return `${modules} modules, ${count?.[2]} imports`;
}

/** Files, exports and packages that nothing uses. */
export async function checkDeadCode() {
  const output = await mustPass(packageScript('knip'), [
    '--no-progress',
    '--treat-config-hints-as-errors',
    '--reporter=symbols',
    `--reporter=${join(root, '.tools/check/knip-count.mjs')}`,
  ]);
  const expected = sourceFiles([...FOLDERS, '.tools'], ['.ts', '.mjs']).length;
  return `${requireCount('knip', /knip looked at (\d+) files/.exec(output), expected)} files`;
}

/** A test that no layer runs is worse than none. */
export async function checkTestPlaces() {
  const tests = sourceFiles([...FOLDERS, '.tools'], ['.test.ts', '.test.mjs', '.spec.ts']);
  const lost = tests.filter((path) => !/^test\/[^/]+\/.*\.test\.ts$/.test(path));
  if (lost.length > 0)
    throw new CheckError(`no layer runs these, tests are test/FOLDER/**/*.test.ts:\n${lost.join('\n')}`);
  if (tests.length === 0) throw new CheckError('there are no tests');
  return `${tests.length} files`;
}
