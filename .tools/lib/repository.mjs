/** Where the repository is, and lists of its files. */
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The root of the checkout. */
export const root = resolve(import.meta.dirname, '../..');

/** What is derived and worth keeping between runs; ignored by git. */
export const cacheFolder = join(root, '.cache');

/** What failed in the run of one layer: a list of lines, as JSON. */
export const failuresFile = join(cacheFolder, 'test-failures.json');

/** Folders that hold no source, wherever they are. */
const DERIVED = new Set(['node_modules', 'dist', 'build', '.cache', '.git', 'coverage']);

/**
 * Every file below some folders whose name has one of the endings, sorted, relative to the root.
 *
 * @param {string[]} folders relative to the root; one that is not there has no files
 * @param {string[]} endings
 * @returns {string[]}
 */
export function sourceFiles(folders, endings) {
  return folders.flatMap((folder) => walk(folder, endings)).sort();
}

/**
 * @param {string} folder
 * @param {string[]} endings
 * @returns {string[]}
 */
function walk(folder, endings) {
  /** @type {import('node:fs').Dirent[]} */
  let entries;
  try {
    entries = readdirSync(join(root, folder), { withFileTypes: true });
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return [];
    throw error;
  }
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return DERIVED.has(entry.name) ? [] : walk(path, endings);
    return endings.some((ending) => entry.name.endsWith(ending)) ? [path] : [];
  });
}
