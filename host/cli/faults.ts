/** The error injector of a name between a file and what is on it. */

import type { BlockFile } from '../block-file.js';
import { FaultFile } from '../fault-file.js';
import { FaultInjector } from '../fault-injector.js';
import type { Format } from './arguments.js';
import { errnoText } from './errno-text.js';
import type { FileNode } from './file-node.js';

/** The file, or an injector on it that has the rules of its name; it belongs to that then. `format` is what the file holds. */
export function withFaults<T extends BlockFile>(
  file: T,
  { faults }: Pick<FileNode, 'faults'>,
  format: Format,
): T | FaultFile {
  return faults === undefined
    ? file
    : new FaultFile(file, new FaultInjector(faults.rules, { errorText: errnoText }), format);
}
