/** Gates for what a page was given: images open of it what they name, and nothing else. */

import { CorralError } from '../host/errors.js';
import { closedGate, type NamedFile, type OpenGate } from '../host/open-gate.js';
import { openSource, type Source } from './source.js';

/**
 * The files that somebody has chosen or dropped together, by their names: a name that an image has for another file counts
 * without the folders in it. Throws ERR_INVALID_ARGUMENT when two have the same name.
 */
export function filesGate(files: Iterable<File | FileSystemFileHandle>): OpenGate {
  return sourcesGate(Array.from(files, (file) => [file.name, file] as const));
}

/** As `filesGate`, with a name for each. */
export function sourcesGate(sources: Iterable<readonly [string, Source]>): OpenGate {
  const byName = new Map<string, Source>();
  for (const [name, source] of sources) {
    if (byName.has(name)) {
      throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `Two files have the name '${name}'` });
    }
    byName.set(name, source);
  }
  return async (named) => {
    const source = byName.get(named.name) ?? byName.get(lastPart(named.name));
    if (source === undefined) {
      throw new CorralError('ERR_NOT_FOUND', {
        reason: `The image needs its ${named.role} '${lastPart(named.name)}': choose that file together with it`,
        field: named.role,
      });
    }
    return openSource(source, { write: named.write, location: lastPart(named.name) });
  };
}

/**
 * The files in a folder and in those below it. Names begin where the naming image is, which is known from its `location`, a
 * path in that folder; none leads out of it.
 */
export function directoryGate(directory: FileSystemDirectoryHandle): OpenGate {
  return async (named) => {
    const path = pathInside(named);
    if (path === undefined) return closedGate(named);
    let folder = directory;
    try {
      for (const part of path.slice(0, -1)) folder = await folder.getDirectoryHandle(part);
      const file = await folder.getFileHandle(path.at(-1) as string);
      return await openSource(file, { write: named.write, location: path.join('/') });
    } catch (error) {
      if (error instanceof CorralError) throw error;
      const reason = `The ${named.role} '${named.name}' is not in the folder`;
      throw new CorralError('ERR_NOT_FOUND', { reason, field: named.role, cause: error });
    }
  };
}

/** The parts of a path that stays inside; undefined for one that would not, and for what is more than a path. */
function pathInside({ name, from = '' }: NamedFile): string[] | undefined {
  if (name.startsWith('/') || /^[^/]*:/.test(name)) return undefined;
  const parts = from.split('/').slice(0, -1);
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.length === 0 ? undefined : parts;
}

function lastPart(name: string): string {
  return name.split(/[\\/]/).at(-1) as string;
}
