/** `--allow-reference`: files behind an image that the inspection opens, and no other. */

import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { BlockFile } from '../block-file.js';
import { CorralError } from '../errors.js';
import { type AllowedReferences, isAllowedPath } from '../inspect/allowed.js';
import { NodeFile } from '../node/node-file.js';
import { STREAM_NAME } from './image-name.js';
import { isUrl } from './open.js';
import { UsageError } from './output.js';

/** What the command line allows; undefined for nothing. Throws `UsageError`. */
export function allowedReferences(path: string, globs: readonly string[]): AllowedReferences | undefined {
  if (globs.length === 0) return undefined;
  if (path === STREAM_NAME || isUrl(path)) {
    throw new UsageError('Only an image in a file can name other files (--allow-reference)');
  }
  return { patterns: globs.map((glob) => resolve(glob)), path: resolve(path) };
}

/** Opens allowed files for reading. A link may lead only to what is allowed, too. */
export function openAllowed(
  { patterns }: AllowedReferences,
  forceShare: boolean,
): (path: string) => Promise<BlockFile> {
  return async (path) => {
    const real = await realpath(path);
    if (!isAllowedPath(real, patterns)) {
      throw new CorralError('ERR_UNSUPPORTED', { reason: 'The file is a link to one that is not allowed' });
    }
    return NodeFile.open(real, { lock: !forceShare });
  };
}
