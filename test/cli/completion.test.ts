/** Command lines completed by the shells themselves. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeProgram } from '../../host/cli/program.js';
import { corralHere, runHere } from './run-corral.js';

let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'corral-completion-'));
  for (const shell of ['bash', 'zsh', 'fish']) {
    writeFileSync(join(folder, `script.${shell}`), (await corralHere('completion', shell)).stdout);
  }
  mkdirSync(join(folder, 'files'));
  mkdirSync(join(folder, 'files', 'images'));
  for (const name of ['a.qcow2', 'b c.raw']) writeFileSync(join(folder, 'files', name), '');
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function inShell(program: string, args: readonly string[]): string {
  const cwd = join(folder, 'files');
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8', timeout: 50_000 });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

/** What bash finds for lines whose words stand between blanks, as bash itself cuts them ("=" is a word). One line each. */
function inBash(lines: readonly string[]): string[][] {
  const script = `
    . ../script.bash
    for line; do
      IFS=' ' read -ra COMP_WORDS <<< "$line"
      [[ $line != *' ' ]] || COMP_WORDS+=('')
      COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=\${#line} COMPREPLY=()
      function=$(complete -p "\${COMP_WORDS[0]}") && function=\${function#*-F } && "\${function%% *}"
      (IFS='|'; echo "\${COMPREPLY[*]}")
    done`;
  return inShell('bash', ['--norc', '-c', script, 'bash', ...lines])
    .slice(0, -1)
    .split('\n')
    .map((line) => line.split('|').sort());
}

/** What each shell has to find; bash's own form of a line is derived. */
const LINES: readonly (readonly [line: string, expected: readonly string[]])[] = [
  ['corral inf', ['info']],
  ['corral info --outp', ['--output']],
  ['corral info -f ', ['qcow2', 'raw']],
  ['corral info --format q', ['qcow2']],
  ['corral info --output=j', ['json']],
  ['corral info a', ['a.qcow2']],
  ['corral info -f qcow2 a', ['a.qcow2']],
  ['corral create -o clu', ['cluster_size=']],
  ['corral create -o extended_l2=on,la', ['extended_l2=on,lazy_refcounts=']],
  ['corral resize --preallocation=m', ['metadata']],
  ['corral check -r l', ['leaks']],
  ['corral convert --progress=j', ['json']],
  ['corral convert -t dir', ['directsync']],
  ['corral rebase -b a', ['a.qcow2']],
  ['corral attach --recovery r', ['reissue']],
  ['corral completion z', ['zsh']],
  ['corral doctor i', ['images']],
  ['corral-io --cache=un', ['unsafe']],
  ['corral-io -r a', ['a.qcow2']],
];

describe('bash', () => {
  test.each(LINES)('completes "%s"', (line, expected) => {
    const [found] = inBash([line.replaceAll('=', ' = ')]);

    // It replaces what is behind the last "=" of the word only.
    const start =
      line
        .split(' ')
        .at(-1)
        ?.replace(/[^=]*$/, '') ?? '';
    const replies = expected.map((word) => (word.startsWith(start) ? word.slice(start.length) : word));
    expect(found).toEqual(replies);
  });

  test('knows every verb and every option with an argument or without', async () => {
    const { verbs } = await describeProgram();

    const [offered, ...options] = inBash(['corral ', ...verbs.map(({ name }) => `corral ${name} -`)]);

    expect(offered).toEqual(expect.arrayContaining(verbs.map(({ name }) => name)));
    for (const [index, verb] of verbs.entries()) {
      const shown = Object.values(verb.options).filter(({ about }) => about !== undefined);
      const names = shown.flatMap(({ shorts, longs }) => [
        ...shorts.map((letter) => `-${letter}`),
        ...longs.map((name) => `--${name}`),
      ]);
      expect(options[index], verb.name).toEqual(names.sort());
    }
  });

  test('completes files and folders, letters in a row, settings, and nothing behind the end of options', () => {
    expect(
      inBash([
        'corral info ',
        'corral info -Uf r',
        'corral dd i',
        'corral dd if = a',
        'corral info -- --o',
        'corral list ',
        'corral -T x inf',
      ]),
    ).toEqual([['a.qcow2', 'b c.raw', 'images'], ['raw'], ['if='], ['a.qcow2'], [''], [''], ['info']]);
  });
});

describe('fish', () => {
  test.each(LINES)('completes "%s"', (line, expected) => {
    const script = `source ../script.fish; complete -C '${line}'`;

    const found = inShell('fish', ['--no-config', '-c', script]).trimEnd().split('\n');

    // It gives the whole word, what it is, and a slash behind a folder.
    const words = found.map((word) => word.replace(/\t.*/, '').replace(/\/$/, ''));
    const option = /(--\S+=)\S*$/.exec(line)?.[1] ?? '';
    expect(words.sort()).toEqual(expected.map((word) => `${option}${word}`));
  });
});

describe('zsh', () => {
  test('completes the same lines as typed on a terminal', () => {
    // One shell for all: each line is completed, printed as it stands then, and taken away.
    const script = `
      zmodload zsh/zpty
      zpty shell zsh -f -i
      zpty -w shell 'PROMPT= PS2=; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; . ../script.zsh'
      zpty -w shell 'tell() { print -r -- "<$BUFFER>"; BUFFER=; zle accept-line }; zle -N tell; bindkey "^O" tell'
      zpty -w shell 'print -r -- "<""ready>"'
      zpty -r shell text '*<ready>*'
      for line; do
        zpty -w -n shell "$line"$'\\t'$'\\C-o'
        zpty -r shell text '*<'"\${line%% *}"'*>*'
        print -r -- "\${\${text##*<}%%>*}"
      done
      zpty -w shell exit`;
    const clear = LINES.filter(([, expected]) => expected.length === 1);

    const found = inShell('zsh', ['-f', '-c', script, 'zsh', ...clear.map(([line]) => line)])
      .trimEnd()
      .split('\n');

    const wholeLines = clear.map(([line, [word = '']]) => {
      const [, before = ''] = /^(.*(?:--\S+=| ))/.exec(line) ?? [];
      return `${line.includes(' -o ') ? line.slice(0, line.indexOf(' -o ') + 4) : before}${word}`;
    });
    // A blank, "=" or "/" may follow, ready for what comes next.
    expect(found.map((line) => line.replace(/[ =/]$/, ''))).toEqual(wholeLines.map((line) => line.replace(/=$/, '')));
  });
});

test('called by a link named qemu-img, the scripts are for that name', async () => {
  const { stdout } = await runHere('qemu-img', ['completion', 'bash']);

  expect(stdout).toContain('complete -F _qemu_img qemu-img');
  expect(stdout).toContain('complete -F _qemu_io qemu-io');
});

test('an unknown shell is refused', async () => {
  expect(await corralHere('completion', 'ksh')).toEqual({
    status: 1,
    stdout: '',
    stderr: "corral: Unknown shell 'ksh' (known: bash, zsh, fish)\nTry 'corral completion --help' for more info\n",
  });
});
