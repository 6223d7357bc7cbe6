/** What can stand where on a program's command line. */

import type { VerbDescription } from '../description.js';
import type { Option, OptionTable } from '../option-table.js';
import { CREATE_OPTIONS } from '../options-help.js';

/** What can stand in one place: some words, files, a list of `name=value` between commas; or nobody knows. */
export type Candidates =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'list'; readonly names: readonly string[] }
  | { readonly kind: 'files' | 'folders' | 'devices' | 'nothing' };

export interface CompletedOption {
  /** With their dashes. */
  readonly shorts: readonly string[];
  readonly longs: readonly string[];
  readonly about: string;
  /** What its argument is called; undefined: it has none. */
  readonly argument: string | undefined;
  readonly candidates: Candidates;
  /** What may stand behind a "=" of its long name, and only there. */
  readonly attached: readonly string[];
}

export interface CompletedVerb {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly CompletedOption[];
  readonly operands: Candidates;
  /** Operands of the form `name=`. */
  readonly settings: readonly string[];
}

/** A program with verbs, or one whose only verb has no name. */
export interface CompletedProgram {
  readonly name: string;
  /** Its own options, in front of the verb. */
  readonly options: readonly CompletedOption[];
  readonly verbs: readonly CompletedVerb[];
}

/** The shells that there are scripts for. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** By the name of an argument, else by a name of the option. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  FMT: ['qcow2', 'raw'],
  KIND: ['human', 'json'],
  CACHE: ['none', 'writeback', 'writethrough', 'directsync', 'unsafe'],
  AIO: ['threads', 'native', 'io_uring'],
  repair: ['leaks', 'all'],
  discard: ['unmap', 'ignore'],
  recovery: ['off', 'fail', 'reissue'],
  'block-size': ['512', '4096'],
  preallocation: ['off', 'metadata', 'falloc', 'full'],
};
const FILES = ['FILE', 'PATH'];

/** Completes `name` by what its verbs say of themselves. */
export function completedProgram(
  name: string,
  options: OptionTable,
  verbs: readonly VerbDescription[],
): CompletedProgram {
  return { name, options: completedOptions(options), verbs: verbs.map(completedVerb) };
}

/** A program without verbs, whose operands are files. */
export function plainProgram(name: string, options: OptionTable): CompletedProgram {
  const verb: CompletedVerb = {
    name: '',
    summary: '',
    options: completedOptions(options),
    operands: { kind: 'files' },
    settings: [],
  };
  return { name, options: [], verbs: [verb] };
}

function completedVerb({ name, summary, operands, options }: VerbDescription): CompletedVerb {
  return {
    name,
    summary,
    options: completedOptions(options),
    operands: operandCandidates(operands),
    settings: [...operands.matchAll(/\b([a-z]+=)[A-Z]/g)].map(([, setting]) => setting as string),
  };
}

/** By the operands as the help shows them. */
function operandCandidates(operands: string): Candidates {
  if (operands === '') return { kind: 'nothing' };
  if (/\bDEVICE\b/.test(operands)) return { kind: 'devices' };
  if (/\bFOLDER\b/.test(operands)) return { kind: 'folders' };
  return operands === 'SHELL' ? { kind: 'words', words: SHELLS } : { kind: 'files' };
}

function completedOptions(options: OptionTable): CompletedOption[] {
  return Object.values(options)
    .filter((option) => option.about !== undefined)
    .map((option) => ({
      shorts: option.shorts.map((letter) => `-${letter}`),
      longs: option.longs.map((name) => `--${name}`),
      about: (option.about as string).replaceAll('\n', ' '),
      argument: option.argument,
      candidates: argumentCandidates(option),
      attached: option.attached?.words ?? [],
    }));
}

function argumentCandidates({ argument, longs }: Option<unknown>): Candidates {
  if (argument === undefined) return { kind: 'nothing' };
  if (FILES.includes(argument)) return { kind: 'files' };
  if (argument === 'LIST') return { kind: 'list', names: CREATE_OPTIONS.map(([name]) => name) };
  const key = [argument, ...longs].find((name) => Object.hasOwn(WORDS, name));
  return key === undefined ? { kind: 'nothing' } : { kind: 'words', words: WORDS[key] as readonly string[] };
}
