/** What an image can be in: whatever a page gets hold of. */

import type { BlockFile } from '../host/block-file.js';
import { CorralError } from '../host/errors.js';
import { HttpFile, type HttpFileOptions } from '../host/http-file.js';
import { BlobFile } from './blob-file.js';
import { OpfsFile, type SyncAccessFile } from './opfs-file.js';

/** A chosen file; a handle of one, or of one in the origin private file system; a URL. */
export type Source = Blob | FileSystemFileHandle | string | URL;

export interface SourceOptions {
  /** Open for writing, which only files of the origin private file system can be. Default: reading. */
  write?: boolean;
  /** For URLs. */
  http?: HttpFileOptions;
  /** Where the file is, for names that begin there. */
  location?: string;
}

/** Opens the file, which is the caller's to close. Rejects as `BlobFile`, `OpfsFile` and `HttpFile` do. */
export async function openSource(source: Source, options: SourceOptions = {}): Promise<BlockFile> {
  const { write = false, http, location } = options;
  if (source instanceof Blob) {
    if (write) throw readOnly('A chosen file cannot be written');
    return new BlobFile(source, { location });
  }
  if (typeof source === 'string' || source instanceof URL) {
    if (write) throw readOnly('A file on a server cannot be written');
    return HttpFile.open(String(source), http);
  }
  if (write) return OpfsFile.open(source as SyncAccessFile, { write, location });
  // Only reading, a snapshot of the file will do, and others may read it, too.
  try {
    return new BlobFile(await source.getFile(), { location });
  } catch (error) {
    const code = (error as Error).name === 'NotFoundError' ? 'ERR_NOT_FOUND' : 'ERR_PERMISSION';
    throw new CorralError(code, { path: source.name, cause: error });
  }
}

function readOnly(reason: string): CorralError {
  return new CorralError('ERR_READ_ONLY', { reason });
}
