/** The scenarios by name: a script in `scenarios/` each. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { shellQuote } from './initramfs.js';
import { repository } from './kernel.js';

const folder = join(repository, 'test/vm/scenarios');

/** A script for {@link Machine.run} that runs the scenario with these arguments. */
export function scenarioScript(name: string, ...args: readonly string[]): string {
  const names = readdirSync(folder)
    .filter((file) => file.endsWith('.sh'))
    .map((file) => file.slice(0, -3));
  if (!names.includes(name)) throw new Error(`no scenario ${name}; there are ${names.join(', ')}`);
  return `exec bash ${[join(folder, `${name}.sh`), ...args].map(shellQuote).join(' ')}`;
}
