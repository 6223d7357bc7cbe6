/** Gates for what a page was given: images open of it what they name, and nothing else. */

import { CorralError } from '../host/errors.js';
import { HttpFile, type HttpFileOptions } from '../host/http-file.js';
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

/** A file that an image names, for those who decide whether it may be fetched. Whoever made the image chose the name. */
export interface NamedAddress {
  readonly role: NamedFile['role'];
  /** As it stands in the image. */
  readonly name: string;
  /** The URL that names it, seen from where the image is; undefined when no http or https URL does. */
  readonly url: string | undefined;
}

/** Says where the file is to be fetched from: often `named.url`, or something of one's own. Undefined: it is not opened. */
export type AllowBacking = (named: NamedAddress) => AllowedAddress | Promise<AllowedAddress>;
type AllowedAddress = string | URL | undefined;

/**
 * Files on servers, as far as the caller allows each: an image may name any address that this page can reach. Headers go to
 * the origin only that the image came from.
 */
export function urlGate(allow: AllowBacking, http: HttpFileOptions = {}): OpenGate {
  return async ({ role, name, from }) => {
    const allowed = await allow({ role, name, url: addressOf(name, from) });
    if (allowed === undefined) {
      const reason = `The image names a ${role}, '${name}', which may not be fetched`;
      throw new CorralError('ERR_UNSUPPORTED', { reason, field: role });
    }
    const url = new URL(allowed, from);
    const isSameOrigin = from !== undefined && new URL(from).origin === url.origin;
    return HttpFile.open(url.href, isSameOrigin ? http : { ...http, headers: undefined });
  };
}

function addressOf(name: string, from: string | undefined): string | undefined {
  // A format's own way of naming a file is no address.
  if (/^[a-z][a-z0-9+.-]*:/i.test(name) && !/^https?:\/\//i.test(name)) return undefined;
  try {
    const { protocol, href } = new URL(name, from);
    return protocol === 'http:' || protocol === 'https:' ? href : undefined;
  } catch {
    return undefined;
  }
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
