/** The script for zsh: to be evaluated, or a file `_corral` in a folder of `fpath`. */

import type { Candidates, CompletedOption, CompletedProgram, CompletedVerb } from './completed-program.js';

/** Completes `name=value` between commas; an action cannot do it by itself, since it may have no colons. */
const LIST = '_corral_list';

export function zshScript(programs: readonly CompletedProgram[]): string {
  const names = programs.map(({ name }) => name);
  const [first = ''] = names;
  return (
    `#compdef ${names.join(' ')}\n# Completion for zsh: eval "$(${first} completion zsh)"\n` +
    programs.map(programText).join('') +
    listText(programs) +
    `\nif [[ $funcstack[1] == ${identifier(first)} ]]; then\n` +
    `  case $service in\n${names.map((name) => `    ${name}) ${identifier(name)} "$@" ;;\n`).join('')}  esac\n` +
    `else\n${names.map((name) => `  compdef ${identifier(name)} ${name}\n`).join('')}fi\n`
  );
}

function listText(programs: readonly CompletedProgram[]): string {
  const options = programs.flatMap(({ verbs }) => verbs.flatMap((verb) => verb.options));
  const names = new Set(options.flatMap(({ candidates }) => (candidates.kind === 'list' ? candidates.names : [])));
  return `\n${LIST}() {\n  _values -s , option ${[...names].map((name) => `'${name}:value:'`).join(' ')}\n}\n`;
}

function identifier(name: string): string {
  return `_${name.replaceAll('-', '_')}`;
}

function programText({ name, options, verbs }: CompletedProgram): string {
  const [only] = verbs;
  if (only?.name === '') return `\n${identifier(name)}() {\n${argumentsText(only, '  ')}}\n`;
  const summaries = verbs.map((verb) => `        ${quote(`${verb.name}:${verb.summary}`)}\n`).join('');
  const cases = verbs
    .map((verb) => `        ${verb.name})\n${argumentsText(verb, '          ')}          ;;\n`)
    .join('');
  const own = options.map((option) => `${optionSpecs(option).join(' ')} `).join('');
  return `
${identifier(name)}() {
  local curcontext=$curcontext state line
  typeset -A opt_args
  _arguments -C -S ${own}'1: :->verb' '*:: :->rest'
  case $state in
    verb)
      local -a verbs=(
${summaries}      )
      _describe -t commands command verbs
      ;;
    rest)
      curcontext=\${curcontext%:*:*}:${name}-$words[1]:
      case $words[1] in
${cases}      esac
      ;;
  esac
}
`;
}

function argumentsText({ options, operands, settings }: CompletedVerb, indent: string): string {
  const specs = options.flatMap(optionSpecs);
  const words =
    settings.length > 0
      ? `:_values operand ${settings.map((setting) => quote(`${setting.slice(0, -1)}:value:_files`)).join(' ')}`
      : `:${action(operands)}`;
  if (operands.kind !== 'nothing') specs.push(quote(`*:operand${words}`));
  return `${indent}_arguments -s -S${specs.map((spec) => ` \\\n${indent}  ${spec}`).join('')}\n`;
}

/** Each name of an option, which may be given once more. */
function optionSpecs({ shorts, longs, about, argument, candidates, attached }: CompletedOption): string[] {
  const text = `[${about.replace(/[\]\\]/g, '\\$&')}]`;
  const value = argument === undefined ? '' : `:${argument}:${action(candidates)}`;
  return [
    ...shorts.map((name) => quote(`*${name}${argument === undefined ? '' : '+'}${text}${value}`)),
    ...longs.map((name) =>
      attached.length > 0
        ? quote(`*${name}=-${text}::KIND:(${attached.join(' ')})`)
        : quote(`*${name}${argument === undefined ? '' : '='}${text}${value}`),
    ),
  ];
}

function action(candidates: Candidates): string {
  switch (candidates.kind) {
    case 'words':
      return `(${candidates.words.join(' ')})`;
    case 'list':
      return LIST;
    case 'files':
      return '_files';
    case 'folders':
      return '_files -/';
    case 'devices':
      return '_files -g "/dev/ublkb*"';
    case 'nothing':
      return ' ';
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
