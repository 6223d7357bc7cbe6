/** Gates that open files by path, for programs that trust the images or know which files may be used. */

import { stat } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { loop } from '../chain.js';
import { CorralError } from '../errors.js';
import { closedGate, type OpenGate } from '../open-gate.js';
import { identityOf, NodeFile } from './node-file.js';

export interface PathGateOptions {
  /** Take QEMU's image locks. Default: true. */
  lock?: boolean;
  /** Past the page cache, as `NodeFileOptions.direct`. */
  direct?: boolean;
  /** Only these files, as paths. Default: any file. */
  only?: readonly string[];
}

/**
 * A gate for files by path. Relative names of backing files begin in the folder of the image that has them, those of data
 * files in the working directory, as in QEMU. Backing files with a protocol (`nbd:`, `json:`) are refused: that would be
 * more than a name.
 */
export function pathGate(options: PathGateOptions = {}): OpenGate {
  const allowed = options.only?.map((path) => resolve(path));
  return async (named) => {
    const { name, from, above, write } = named;
    if (named.role === 'data file') {
      if (allowed !== undefined && !allowed.includes(resolve(name))) return closedGate(named);
      return NodeFile.open(name, { write, lock: options.lock, direct: options.direct });
    }
    if (/^[^/]*:/.test(name)) {
      throw new CorralError('ERR_UNSUPPORTED', {
        reason: `The ${named.role} '${name}' has a protocol: only files can be opened`,
      });
    }
    if (!name.startsWith('/') && from === undefined) {
      throw new CorralError('ERR_UNSUPPORTED', {
        reason: `The ${named.role} '${name}' is relative to an image whose place is not known`,
      });
    }
    const path = name.startsWith('/') ? name : `${(from ?? '').slice(0, (from ?? '').lastIndexOf('/') + 1)}${name}`;
    if (allowed !== undefined && !allowed.includes(resolve(path))) return closedGate(named);
    // Ahead of the locks: those of the file that is open already would stand in the way.
    const status = await promisify(stat)(path).catch(() => undefined);
    if (status !== undefined && above.includes(identityOf(status))) throw loop(name);
    return NodeFile.open(path, { write, lock: options.lock, direct: options.direct });
  };
}
