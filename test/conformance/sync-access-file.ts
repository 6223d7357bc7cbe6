/** What a browser's private file system gives a worker, on a file of this machine. */

import { closeSync, constants, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import type { SyncAccessFile, SyncAccessHandle } from '../../browser/opfs-file.js';

/** A file that is made when it is not there. */
export function accessFile(path: string): SyncAccessFile {
  return {
    name: basename(path),
    async createSyncAccessHandle(): Promise<SyncAccessHandle> {
      const descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT);
      return {
        read: (target, { at }) => readSync(descriptor, target, 0, target.length, at),
        // Never more than this at once, as it may be.
        write: (source, { at }) => writeSync(descriptor, source, 0, Math.min(source.length, 100_000), at),
        getSize: () => fstatSync(descriptor).size,
        truncate: (length) => ftruncateSync(descriptor, length),
        flush: () => fsyncSync(descriptor),
        close: () => closeSync(descriptor),
      };
    },
  };
}
