/** What a command of the shell is. */

import type { Session } from './session.js';
import type { Words } from './words.js';

export interface Command {
  readonly name: string;
  /** Another, shorter name. */
  readonly short?: string;
  /** The arguments, as the help shows them. */
  readonly usage: string;
  readonly about: string;
  /** More for `help NAME`, in lines. */
  readonly help?: string;
  /** Options: letters, with a colon behind those that have a value. Without any the words are taken as they are. */
  readonly letters?: string;
  /** Least and most words behind the name, options included; most may be left out. */
  readonly count: readonly [least: number, most?: number];
  /** It needs an open file; `write`: one that can be written. */
  readonly needs?: 'read' | 'write';
  /** Resolves to false when it has failed, and has said why. Throws CommandFailure or UsageFailure. */
  run(session: Session, words: Words): Promise<boolean> | boolean;
}
