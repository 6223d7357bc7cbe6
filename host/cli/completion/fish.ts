/** The script for fish. */

import type { Candidates, CompletedOption, CompletedProgram, CompletedVerb } from './completed-program.js';

export function fishScript(programs: readonly CompletedProgram[]): string {
  return `# Completion for fish: ${programs[0]?.name} completion fish | source\n${programs.map(programText).join('')}`;
}

function programText({ name, options, verbs }: CompletedProgram): string {
  const lines = [`complete -c ${name} -f`];
  for (const option of options) lines.push(`complete -c ${name} -n __fish_use_subcommand ${optionText(option)}`);
  for (const verb of verbs) {
    if (verb.name !== '') {
      lines.push(`complete -c ${name} -n __fish_use_subcommand -a ${verb.name} -d ${quote(verb.summary)}`);
    }
    lines.push(...verbLines(name, verb));
  }
  return `\n${lines.join('\n')}\n`;
}

function verbLines(program: string, { name, options, operands, settings }: CompletedVerb): string[] {
  const condition = name === '' ? '' : ` -n ${quote(`__fish_seen_subcommand_from ${name}`)}`;
  const start = `complete -c ${program}${condition}`;
  const lines = options.map((option) => `${start} ${optionText(option)}`);
  if (operands.kind !== 'nothing') lines.push(`${start} ${candidatesText(operands)}`);
  if (settings.length > 0) lines.push(`${start} -a ${quote(settings.join(' '))}`);
  return lines;
}

function optionText({ shorts, longs, about, argument, candidates, attached }: CompletedOption): string {
  const names = [...shorts.map((name) => `-s ${name.slice(1)}`), ...longs.map((name) => `-l ${name.slice(2)}`)];
  const optional = attached.length === 0 ? '' : ` -f -a ${quote(attached.join(' '))}`;
  const value = argument === undefined ? optional : ` -r ${candidatesText(candidates)}`;
  return `${names.join(' ')}${value} -d ${quote(about)}`;
}

function candidatesText(candidates: Candidates): string {
  switch (candidates.kind) {
    case 'words':
      return `-f -a ${quote(candidates.words.join(' '))}`;
    case 'list':
      return `-f -a ${quote(`(__fish_append , ${candidates.names.map((name) => `${name}=`).join(' ')})`)}`;
    case 'files':
      return '-F';
    case 'folders':
      return `-f -a ${quote('(__fish_complete_directories)')}`;
    case 'devices':
      return `-f -a ${quote('(for device in /dev/ublkb*; echo $device; end)')}`;
    case 'nothing':
      return '-f';
  }
}

/** In fish a backslash counts within quotes, too. */
function quote(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
