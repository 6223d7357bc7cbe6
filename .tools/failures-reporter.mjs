/** A reporter of vitest: what failed, a line each, for the end of a run that prints thousands of lines. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { cacheFolder, failuresFile, root } from './lib/repository.mjs';

export default class FailuresReporter {
  /**
   * @param {readonly import('vitest/node').TestModule[]} modules
   * @param {readonly import('vitest').SerializedError[]} unhandled errors that belong to no test: a rejection that
   *   nobody waited for, a broken socket; they alone make a run fail
   */
  onTestRunEnd(modules, unhandled) {
    const failures = modules.flatMap((module) => {
      const file = relative(root, module.moduleId);
      const broken = module.errors().map(({ message }) => `${file}: ${firstLine(message)}`);
      const failed = [...module.children.allTests()]
        .filter((test) => !test.ok() || test.result().state === 'skipped')
        .map((test) => {
          const { state, errors } = test.result();
          return `${file}: ${test.fullName}: ${state === 'skipped' ? 'skipped' : firstLine(errors?.[0]?.message ?? state)}`;
        });
      return [...broken, ...failed];
    });
    const homeless = unhandled.map(({ name, message, stack }) => `unhandled ${name}: ${message}\n${stack ?? ''}`);
    mkdirSync(cacheFolder, { recursive: true });
    writeFileSync(failuresFile, JSON.stringify([...failures, ...homeless]));
  }
}

/** @param {string} text */
function firstLine(text) {
  return text.split('\n', 1)[0] ?? '';
}
