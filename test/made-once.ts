/** Files that take a while to make: made once by each test file, and copied for every test. */

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from './temporary-folder.js';

/** Bytes of the longest file that is kept; longer ones are made again. */
const LONGEST = 1 << 24;

const made = new Map<string, Buffer>();

/**
 * Path of the test's own copy of a file, in a new folder.
 *
 * @param key says all that the contents depend on
 * @param make makes the file, and no other one
 */
export function madeOnce(key: string, make: (path: string) => void): string {
  const path = join(temporaryFolder(), 'image.qcow2');
  const contents = made.get(key);
  if (contents !== undefined) writeFileSync(path, contents);
  else {
    make(path);
    if (statSync(path).size <= LONGEST) made.set(key, readFileSync(path));
  }
  return path;
}
