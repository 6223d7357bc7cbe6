import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryFile } from '../../host/memory-file.js';
import { NodeFile } from '../../host/node/node-file.js';
import { temporaryFolder } from '../temporary-folder.js';
import { describeBlockFile } from './block-file-suite.js';

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
