/**
 * The core: assembly/index.ts becomes dist/corral.wasm, dist/corral.shared.wasm whose memory several threads share, and
 * dist/corral.debug.wasm with assertions and names.
 *
 * asconfig.json says `use: abort=`: without an abort function a failed assertion is a plain trap, and the module's
 * only imports stay those of assembly/block.ts.
 */

import { sourceFiles } from '../lib/repository.mjs';
import { capture, packageScript } from '../lib/run.mjs';
import { StageError } from '../lib/stage.mjs';

/** @returns {import('../lib/stage.mjs').Stage[]} */
export function coreStages() {
  return [
    coreStage('core', 'release', 'dist/corral.wasm'),
    coreStage('core-shared', 'shared', 'dist/corral.shared.wasm'),
    coreStage('core-debug', 'debug', 'dist/corral.debug.wasm'),
  ];
}

/**
 * @param {string} name
 * @param {string} target of asconfig.json
 * @param {string} output
 * @returns {import('../lib/stage.mjs').Stage}
 */
function coreStage(name, target, output) {
  return {
    name,
    inputs: ['asconfig.json', 'package-lock.json', ...sourceFiles(['assembly'], ['.ts'])],
    outputs: [output],
    async run() {
      const asc = packageScript('assemblyscript', 'asc');
      const result = await capture(process.execPath, [
        asc,
        '--config',
        'asconfig.json',
        '--target',
        target,
        '--noColors',
      ]);
      if (result.status !== 0) throw new StageError(result.output);
      // Warnings; Binaryen's remark that another round gained nothing is none.
      process.stderr.write(result.output.replace(/^Last converge was suboptimal\.\n/gm, ''));
    },
  };
}
