/** The manual pages, which are committed like the ABI's files. */
import { join } from 'node:path';
import { root, sourceFiles } from '../lib/repository.mjs';
import { capture } from '../lib/run.mjs';
import { StageError } from '../lib/stage.mjs';

/** @returns {import('../lib/stage.mjs').Stage} */
export function manualStage() {
  return {
    name: 'manual',
    inputs: [
      'package.json',
      '.tools/generate-manual.mjs',
      ...sourceFiles(['.tools/manual', 'host/cli'], ['.ts', '.mjs', '.1.in']),
    ],
    outputs: ['host/cli/man/corral.1', 'host/cli/man/corral-io.1'],
    async run() {
      const result = await capture(process.execPath, [join(root, '.tools/generate-manual.mjs')]);
      if (result.status !== 0) throw new StageError(result.output);
    },
  };
}
