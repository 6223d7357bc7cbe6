/** Which files may be opened because an image names them, in what can be sent to another thread. */
import { closedGate, type OpenGate } from '../open-gate.js';
import { type PathGateOptions, pathGate } from './path-gate.js';

/** Any file, or those with these paths. */
export type MayOpen = 'any' | readonly string[];

/** The gate that opens these files; none when nothing is said. */
export function gateOf(mayOpen: MayOpen | undefined, options: Pick<PathGateOptions, 'direct' | 'lock'> = {}): OpenGate {
  if (mayOpen === undefined) return closedGate;
  return mayOpen === 'any' ? pathGate(options) : pathGate({ ...options, only: mayOpen });
}
