/** The manual pages, as a reader's program shows them. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { optionNames } from '../../host/cli/description.js';
import { describeProgram } from '../../host/cli/program.js';

const ROOT = join(import.meta.dirname, '../..');
const { man } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { man: string[] };

function mandoc(...args: string[]) {
  const { status, stdout, stderr } = spawnSync('mandoc', args, { cwd: ROOT, encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** A page as text without bold letters; wide, so that no line is broken. */
function rendered(page: string): string {
  return mandoc('-T', 'utf8', '-O', 'width=1000', page).stdout.replace(/.\x08/g, '');
}

describe('the manual pages', () => {
  test.each(man)('of the package have no mistake: %s', (page) => {
    expect(mandoc('-T', 'lint', '-W', 'style', page)).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  test('have every command with every option that the help shows', async () => {
    const { verbs } = await describeProgram();
    const text = rendered('host/cli/man/corral.1');

    for (const { name, options } of verbs) {
      // From the command's heading to the next one.
      const [, rest = ''] = text.split(new RegExp(`^   ${name}$`, 'm'));
      const [section = ''] = rest.split(/^ {0,3}\w/m);
      expect(section, name).toMatch(new RegExp(`^\\s+corral ${name}\\b`));
      const own = Object.entries(options).filter(([key, { about }]) => key !== 'help' && about !== undefined);
      for (const [, option] of own) expect(section, name).toContain(`  ${optionNames(option)}`);
    }
  });

  test('have every command of the shell', () => {
    const text = rendered('host/cli/man/corral-io.1');
    const help = spawnSync(process.execPath, [join(ROOT, 'dist/host/cli/io/main.js'), '-c', 'help'], {
      encoding: 'utf8',
    });

    const names = [...help.stdout.matchAll(/^(\w+) .*-- /gm)].map(([, name]) => name as string);
    expect(names.length).toBeGreaterThan(20);
    for (const name of names) expect(text).toMatch(new RegExp(`^ {7}${name}\\b`, 'm'));
  });
});
