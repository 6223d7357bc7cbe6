/** The script for bash. */

import type { Candidates, CompletedOption, CompletedProgram, CompletedVerb } from './completed-program.js';

/** One function for each program. Needs bash 4.2, and no other package. */
export function bashScript(programs: readonly CompletedProgram[]): string {
  return `# Completion for bash: eval "$(${programs[0]?.name} completion bash)"\n${HELPERS}${programs.map(programText).join('')}`;
}

/**
 * What all programs share. bash cuts words at a "=", and replaces only what is behind it: \`_corral_words\` sets \`words\` with
 * the pieces put together again, and each reply loses what the line has already.
 */
const HELPERS = `
_corral_words() {
  local i
  words=()
  for ((i = 1; i <= COMP_CWORD; i++)); do
    if ((i > 1)) && [[ \${COMP_WORDS[i]} == = || \${COMP_WORDS[i - 1]} == = ]]; then
      words[\${#words[@]} - 1]+=\${COMP_WORDS[i]}
    else
      words+=("\${COMP_WORDS[i]}")
    fi
  done
}

# _corral_reply KIND VALUE [WORD...]: the candidates that begin with VALUE.
_corral_reply() {
  local kind=$1 value=$2 head= there
  shift 2
  there=\${value%"\${value##*=}"}
  case $kind in
    words) mapfile -t COMPREPLY < <(compgen -W "$*" -- "$value") ;;
    list)
      [[ $value != *,* ]] || head=\${value%,*},
      mapfile -t COMPREPLY < <(compgen -P "$head" -W "$*" -- "\${value##*,}")
      COMPREPLY=("\${COMPREPLY[@]#"$there"}")
      ;;
    files | folders | devices)
      case $kind in
        files) mapfile -t COMPREPLY < <(compgen -f -- "$value") ;;
        folders) mapfile -t COMPREPLY < <(compgen -d -- "$value") ;;
        devices) mapfile -t COMPREPLY < <(compgen -W "$(compgen -G '/dev/ublkb*')" -- "$value") ;;
      esac
      # Slashes behind folders, and quotes around what needs them; quotes in the line are left to bash.
      compopt -o filenames 2> /dev/null
      ((\${#COMPREPLY[@]})) || compopt -o default 2> /dev/null
      return
      ;;
  esac
  [[ \${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2> /dev/null
}
`;

function programText({ name, options, verbs }: CompletedProgram): string {
  const identifier = `_${name.replaceAll('-', '_')}`;
  const named = verbs.filter((verb) => verb.name !== '');
  const findVerb =
    named.length === 0
      ? ''
      : `
  for ((i = 0; i < \${#words[@]} - 1; i++)); do
    case \${words[i]} in
      -T | --trace) ((i++)) ;;
      -*) ;;
      *)
        verb=\${words[i]}
        break
        ;;
    esac
  done
  if [[ -z $verb ]]; then
    _corral_reply words "$value" ${quote([...named.map((verb) => verb.name), ...allNames(options)].join(' '))}
    return
  fi`;
  return `
${identifier}() {
  local words i verb= option= value
  COMPREPLY=()
  _corral_words
  value=\${words[-1]}${findVerb}
  if [[ $value == --*=* ]]; then
    option=\${value%%=*} value=\${value#*=}${attachedCases(verbs)}
  elif ((\${#words[@]} > 1)); then
    option=\${words[-2]}
    # The last of several letters may have an argument.
    [[ $option != -[!-]?* ]] || option=-\${option: -1}
  fi
  for i in "\${words[@]:0:\${#words[@]}-1}"; do
    [[ $i != -- ]] || option=--
  done
  case $verb:$option in
${verbs.flatMap((verb) => verb.options.flatMap((option) => argumentCase(verb, option))).join('\n')}
  esac
  [[ $option == -- || $value != -* ]] || option=dash
  case $verb:$option in
${verbs.map(optionsCase).join('\n')}
${verbs.map(operandsCase).join('\n')}
  esac
}
complete -F ${identifier} ${name}
`;
}

/** Words that can only stand behind a "=". */
function attachedCases(verbs: readonly CompletedVerb[]): string {
  const cases = verbs.flatMap(({ name, options }) =>
    options
      .filter(({ attached }) => attached.length > 0)
      .map(({ longs, attached }) => {
        const patterns = longs.map((option) => `${name}:${option}`).join(' | ');
        return `\n      ${patterns}) ${reply({ kind: 'words', words: attached })}; return ;;`;
      }),
  );
  return cases.length === 0 ? '' : `\n    case $verb:$option in${cases.join('')}\n    esac`;
}

function argumentCase({ name }: CompletedVerb, { shorts, longs, argument, candidates }: CompletedOption): string[] {
  if (argument === undefined) return [];
  const patterns = [...shorts, ...longs].map((option) => `${name}:${option}`);
  const action = candidates.kind === 'nothing' ? 'return' : `${reply(candidates)}; return`;
  return [`    ${patterns.join(' | ')}) ${action} ;;`];
}

function optionsCase({ name, options }: CompletedVerb): string {
  return `    ${name}:dash) _corral_reply words "$value" ${quote(allNames(options).join(' '))} ;;`;
}

function operandsCase({ name, operands, settings }: CompletedVerb): string {
  if (settings.length === 0) return `    ${name}:*) ${reply(operands)} ;;`;
  return `    ${name}:*)
      if [[ $value == *=* ]]; then
        value=\${value#*=}
        ${reply(operands)}
      else
        _corral_reply words "$value" ${quote(settings.join(' '))}
      fi
      ;;`;
}

function reply(candidates: Candidates): string {
  if (candidates.kind === 'nothing') return ':';
  if (candidates.kind === 'words') return `_corral_reply words "$value" ${quote(candidates.words.join(' '))}`;
  if (candidates.kind !== 'list') return `_corral_reply ${candidates.kind} "$value"`;
  return `_corral_reply list "$value" ${quote(candidates.names.map((name) => `${name}=`).join(' '))}`;
}

/** Long names, and letters of options that have no long one. */
function allNames(options: readonly CompletedOption[]): string[] {
  return options.flatMap(({ shorts, longs }) => [...shorts, ...longs]);
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
