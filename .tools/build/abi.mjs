/** The boundary: what TypeScript, C++ and the core itself know of assembly/abi/. */
import { join } from 'node:path';
import { root, sourceFiles } from '../lib/repository.mjs';
import { capture } from '../lib/run.mjs';
import { StageError } from '../lib/stage.mjs';

/** @returns {import('../lib/stage.mjs').Stage} */
export function abiStage() {
  return {
    name: 'abi',
    inputs: ['.tools/generate-abi.mjs', ...sourceFiles(['.tools/abi', 'assembly/abi'], ['.ts', '.mjs'])],
    outputs: ['host/abi.ts', 'native/abi.hpp', 'assembly/abi-hash.ts'],
    async run() {
      const result = await capture(process.execPath, [join(root, '.tools/generate-abi.mjs'), '--quiet']);
      if (result.status !== 0) throw new StageError(result.output);
    },
  };
}
