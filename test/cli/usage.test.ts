import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { corral, corralHere, MAIN } from './run-corral.js';
import { newImage } from './sample-images.js';

const VERBS = [
  'info',
  'map',
  'check',
  'create',
  'convert',
  'attach',
  'detach',
  'flush',
  'cache',
  'stat',
  'list',
  'serve',
];

describe('corral', () => {
  test('--version prints the version of the package', () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));

    expect(corral(['--version'])).toEqual({ status: 0, stdout: `corral ${version}\n`, stderr: '' });
  });

  test('--help lists every command', () => {
    const { status, stdout, stderr } = corral(['--help']);

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const verb of VERBS) expect(stdout).toMatch(new RegExp(`^ +${verb} +\\w`, 'm'));
  });

  test.each(VERBS)('%s --help tells how to use it', async (verb) => {
    const { status, stdout, stderr } = await corralHere(verb, '--help');

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(new RegExp(`^Usage: corral ${verb} .*\n\n\\w`));
  });

  test.each([
    ['no command', []],
    ['an unknown command', ['inspekt']],
    ['an unknown option', ['--loud']],
    ...VERBS.map((verb): [string, string[]] => [`an unknown option of ${verb}`, [verb, '--no-such-option']]),
    ...VERBS.filter((verb) => !['convert', 'attach', 'serve'].includes(verb)).map((verb): [string, string[]] => [
      `too many arguments of ${verb}`,
      [verb, 'a', '1', 'c', 'd'],
    ]),
    ['attach of nothing', ['attach']],
    ['a kind of recovery that is unknown', ['attach', '--recovery=maybe', 'x']],
    ['a guard that is left out of an image', ['attach', '--no-guard', 'x']],
    ['an option without its value', ['info', '-f']],
    ['another kind of output', ['info', '--output=xml', 'x']],
    ['an escape sequence', ['\x1b[2J']],
  ])('with %s complains in one line, and says where there is help', async (_, args) => {
    const { status, stdout, stderr } = await corralHere(...args);

    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^corral(?: \w+)?: .+\nTry 'corral(?: \w+)? --help' for more info\n$/);
  });

  test('shows nothing of the command line that would deceive a terminal', () => {
    const { stderr } = corral(['info', '/nowhere/\x1b[2J\n\u202e']);

    expect(stderr).toBe(
      "corral: Could not open '/nowhere/\\x1b[2J\\x0a\\u{202e}': Could not open '/nowhere/\\x1b[2J\\x0a\\u{202e}': No such file or directory\n",
    );
  });

  test('prints all of a long output before it ends, also into a slow pipe', () => {
    const path = newImage('cluster_size=2M,preallocation=metadata', '64M');
    const script = '"$0" "$1" map --output=json "$2" | (sleep 0.5; cat)';

    const { stdout } = spawnSync('bash', ['-c', script, process.execPath, MAIN, path], { encoding: 'utf8' });

    expect(() => JSON.parse(stdout)).not.toThrow();
  });
});
