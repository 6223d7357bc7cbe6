/** Which files may be opened because an image names them, in what can be sent to another thread. */
import { closedGate, type OpenGate } from '../open-gate.js';
import { pathGate } from './path-gate.js';

/** Any file, or those with these paths. */
export type MayOpen = 'any' | readonly string[];

/** The gate that opens these files, past the page cache if so; none when nothing is said. */
export function gateOf(mayOpen: MayOpen | undefined, direct = false): OpenGate {
  if (mayOpen === undefined) return closedGate;
  return mayOpen === 'any' ? pathGate({ direct }) : pathGate({ only: mayOpen, direct });
}
