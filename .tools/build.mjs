#!/usr/bin/env node
/**
 * Builds everything into dist/, leaving out each stage whose inputs have not changed.
 *
 *   node .tools/build.mjs [--if-missing] [--quiet] [--addon-optional]
 *
 *   --if-missing      build only what is not there at all
 *   --quiet           print one line when something has to be built, and problems
 *   --addon-optional  an addon that does not compile is a line, not a failure
 *
 * Exit status: 0 built; 1 a stage failed; 2 everything was built, but TypeScript found type errors (the JavaScript is
 * there and can be run).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { abiStage } from './build/abi.mjs';
import { addonStage, missingCompiler } from './build/addon.mjs';
import { browserStage } from './build/browser.mjs';
import { bundleStage } from './build/bundle.mjs';
import { codeCacheStage } from './build/code-cache.mjs';
import { coreStages } from './build/core.mjs';
import { hostsStage, TypeErrors } from './build/hosts.mjs';
import { inspectorStage } from './build/inspector.mjs';
import { manualStage } from './build/manual.mjs';
import { root } from './lib/repository.mjs';
import { isMissing, isStale, runStage, StageError, withBuildLock } from './lib/stage.mjs';

const { values: options } = parseArgs({
  options: {
    'if-missing': { type: 'boolean', default: false },
    quiet: { type: 'boolean', default: false },
    'addon-optional': { type: 'boolean', default: false },
  },
});

process.exitCode = await withBuildLock(build);

/** @returns {Promise<number>} the exit status */
async function build() {
  const abi = abiStage();
  if (isStale(abi) && (await runReported(abi)) !== 0) return 1; // the other stages read what it writes

  const stages = [...coreStages(), hostsStage(), bundleStage(), manualStage()];
  const addonStatus = planAddon(stages);
  const todo = stages.filter(options['if-missing'] ? isMissing : isStale);
  if (todo.length > 0 && options.quiet) {
    console.log(`Building ${todo.map(({ name }) => name).join(', ')} (a first build takes about a minute) ...`);
  }
  const statuses = await Promise.all(todo.map(runReported));
  // They take the core along, or run it.
  for (const stageOf of [browserStage, inspectorStage, codeCacheStage]) {
    if (statuses.includes(1)) break;
    const stage = stageOf();
    if (!(options['if-missing'] ? isMissing : isStale)(stage)) continue;
    todo.push(stage);
    statuses.push(await runReported(stage));
  }
  if (todo.length === 0 && !options.quiet) console.log('everything is up to date');
  return [addonStatus, ...statuses].reduce(
    (worst, status) => (worst === 1 || status === 1 ? 1 : Math.max(worst, status)),
    0,
  );
}

/**
 * Adds the addon's stage, or says why there will be no addon.
 *
 * @param {import('./lib/stage.mjs').Stage[]} stages
 * @returns {number} 1 when it is missing where it must not be
 */
function planAddon(stages) {
  const stage = addonStage();
  if (stage === undefined) return 0;
  const missing = missingCompiler();
  if (missing.length === 0 || !isStale(stage)) {
    stages.push(stage);
    return 0;
  }
  console.error(
    `addon    not built, ${missing.join(' and ')} not found: apt-get install python3 make g++ ` +
      '(without it there is no ublk device, no io_uring and no image lock)',
  );
  return process.env.CI === 'true' ? 1 : 0;
}

/**
 * @param {import('./lib/stage.mjs').Stage} stage
 * @returns {Promise<number>}
 */
async function runReported(stage) {
  const start = performance.now();
  try {
    await runStage(stage);
    if (!options.quiet) console.log(`${stage.name.padEnd(11)}${((performance.now() - start) / 1000).toFixed(1)} s`);
    return 0;
  } catch (error) {
    if (!(error instanceof StageError)) throw error;
    if (stage.name === 'addon' && options['addon-optional'] && process.env.CI !== 'true') {
      console.error(`addon      does not compile here, going on without it; \`npm run build\` shows why`);
      return 0;
    }
    console.error(`${stage.name.padEnd(11)}failed\n${error.message.trimEnd()}`);
    return error instanceof TypeErrors && existsSync(join(root, 'dist/host')) ? 2 : 1;
  }
}
