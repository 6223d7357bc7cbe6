/** Images in files that a page has, opened and made in the thread of the caller. */

import type { BlockFile } from '../host/block-file.js';
import type { CreateImageOptions } from '../host/create-image.js';
import type { HttpFileOptions } from '../host/http-file.js';
import { Image } from '../host/image.js';
import type { OpenOptions } from '../host/open-options.js';
import { browserCodec } from './browser-codec.js';
import { loadCore } from './core.js';
import { type AllowBacking, urlGate } from './gates.js';
import { OpfsFile, type SyncAccessFile } from './opfs-file.js';
import { openSource, type Source } from './source.js';

/** As `OpenOptions`; the core is the one that lies beside this file unless another one is given. */
export type BrowserOpenOptions = Partial<OpenOptions>;

/** Opens the image in a file that somebody chose. Rejects as `Image.open` does. */
export function openBlob(file: Blob, options: BrowserOpenOptions = {}): Promise<Image> {
  return openImage(file, options);
}

/**
 * Opens the image in a file of the origin private file system; with `write` in a dedicated worker only, and then nobody
 * else can open it. A flush makes durable. Rejects as `Image.open` and `OpfsFile.open` do.
 */
export function openOpfs(file: FileSystemFileHandle, options: BrowserOpenOptions = {}): Promise<Image> {
  return openImage(file, options);
}

export interface UrlOptions {
  http?: HttpFileOptions;
  /** Asked about each file that the image, or one behind it, names. Default: none is opened. */
  allowBacking?: AllowBacking;
}

/**
 * Opens the image at a URL, of which only the parts are read that are needed. What lies behind it is opened where
 * `allowBacking` or a gate allows it. Rejects as `Image.open` and `HttpFile.open` do.
 */
export function openUrl(url: string | URL, options: BrowserOpenOptions & UrlOptions = {}): Promise<Image> {
  const { allowBacking, ...rest } = options;
  return openImage(url, allowBacking === undefined ? rest : { ...rest, gate: urlGate(allowBacking, rest.http) });
}

/** Opens the image in whatever it is in. */
export async function openImage(
  source: Source,
  options: BrowserOpenOptions & { http?: HttpFileOptions; location?: string } = {},
): Promise<Image> {
  const { http, location, ...rest } = options;
  const file = await openSource(source, { write: options.write, http, location });
  return openIn(file, rest);
}

/** Opens the image in a file, which is closed when that fails. */
export async function openIn(file: BlockFile, options: BrowserOpenOptions): Promise<Image> {
  try {
    const { core = await loadCore(), codec = browserCodec } = options;
    return await Image.open(file, { ...options, core, codec });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Makes a new image in a file of the origin private file system, which must be empty. In a dedicated worker only. Rejects
 * as `Image.create` and `OpfsFile.open` do.
 */
export async function createOpfs(
  file: FileSystemFileHandle,
  options: Omit<CreateImageOptions, 'core'> & { core?: WebAssembly.Module },
): Promise<void> {
  const opened = await OpfsFile.open(file as SyncAccessFile, { write: true });
  try {
    await Image.create(opened, { ...options, core: options.core ?? (await loadCore()) });
    await opened.flush();
  } finally {
    await opened.close();
  }
}
