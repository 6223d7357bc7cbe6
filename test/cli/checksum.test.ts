import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, mustQemuImg, qemuIo } from './run-corral.js';

test('corral checksum is the hash of what a guest reads, whatever holds it', async () => {
  const folder = temporaryFolder();
  const at = (name: string): string => join(folder, name);
  mustQemuImg('create', '-q', '-f', 'qcow2', at('base'), '3M');
  qemuIo(at('base'), 'write -P 1 0 1M', 'write -P 2 2M 64k');
  mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', at('overlay'), '5M');
  qemuIo(at('overlay'), 'write -P 3 512k 100k', 'write -z 2M 64k', 'write -P 4 4M 1k');
  mustQemuImg('convert', '-O', 'raw', at('overlay'), at('raw'));
  mustQemuImg('convert', '-c', '-O', 'qcow2', '-o', 'compression_type=zstd', at('overlay'), at('packed'));
  mustQemuImg('convert', '-S', '0', '-O', 'qcow2', '-o', 'cluster_size=512,compat=0.10', at('overlay'), at('full'));
  const hash = createHash('sha256')
    .update(readFileSync(at('raw')))
    .digest('hex');

  for (const [name, ...format] of [['overlay'], ['raw', '-f', 'raw'], ['packed'], ['full']]) {
    const { status, stdout, stderr } = await corralHere('checksum', ...format, at(name as string));

    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: `${hash}  ${at(name as string)}\n`, stderr: '' });
  }
});
