import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BlobFile } from '../../browser/blob-file.js';
import { OpfsFile } from '../../browser/opfs-file.js';
import { HttpFile } from '../../host/http-file.js';
import { MemoryFile } from '../../host/memory-file.js';
import { NodeFile } from '../../host/node/node-file.js';
import { serveFile } from '../host/http-server.js';
import { temporaryFolder } from '../temporary-folder.js';
import { describeBlockFile, describeReadOnlyFile } from './block-file-suite.js';
import { accessFile } from './sync-access-file.js';

describeBlockFile('a file in memory', {
  writable: async () => new MemoryFile(),
  readOnly: async (contents) => new MemoryFile(contents, true),
});

describeBlockFile('a file of the system', {
  writable: () => NodeFile.open(join(temporaryFolder(), 'file'), { create: true }),
  async readOnly(contents) {
    const path = join(temporaryFolder(), 'file');
    writeFileSync(path, contents);
    return NodeFile.open(path);
  },
});

describeBlockFile('a file of the private file system', {
  writable: () => OpfsFile.open(accessFile(join(temporaryFolder(), 'file')), { write: true }),
  async readOnly(contents) {
    const path = join(temporaryFolder(), 'file');
    writeFileSync(path, contents);
    return OpfsFile.open(accessFile(path));
  },
});

describeReadOnlyFile('a blob', async (contents) => new BlobFile(new Blob([contents as Uint8Array<ArrayBuffer>])));

describeReadOnlyFile('a file on a server', async (contents) => HttpFile.open((await serveFile({ contents })).url));
