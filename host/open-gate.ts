/**
 * The gate through which every file goes that an image names: its backing file, its data file. Whoever made the image
 * chose those names, so nothing is opened unless the caller of the library says so.
 */

import type { BlockFile } from './block-file.js';
import { CorralError } from './errors.js';

/** A file that an image names. The name is the image's own text: nobody has checked it. */
export interface NamedFile {
  readonly role: 'backing file' | 'data file';
  readonly name: string;
  /** Where the file of the naming image is, as far as that is known: relative names begin there. */
  readonly from: string | undefined;
  /** The file will be written. Never for backing files. */
  readonly write: boolean;
  /** Identities of the files that are open above this one; meeting one of them again would be a loop. */
  readonly above: readonly string[];
}

/** Opens the file, which then belongs to the image that names it; rejects when that is not wanted or not possible. */
export type OpenGate = (named: NamedFile) => Promise<BlockFile>;

/** The gate of those who gave none. */
export const closedGate: OpenGate = async ({ role, name }) => {
  throw new CorralError('ERR_UNSUPPORTED', {
    reason: `The image names a ${role}, '${name}', and no gate was given that may open it`,
    field: role,
  });
};

/** A gate that opens the files of a list, by the names that images have for them. The files stay the caller's to make. */
export function listGate(files: Readonly<Record<string, () => Promise<BlockFile>>>): OpenGate {
  return async (named) => {
    const open = Object.hasOwn(files, named.name) ? files[named.name] : undefined;
    return open === undefined ? closedGate(named) : open();
  };
}
