/** Options by which a command line says in which sandbox something is looked at. */

import type { SandboxOptions } from '../node/sandbox.js';
import { SANDBOX_LEVELS, type SandboxLevel } from '../node/sandbox-levels.js';
import { value } from './option-table.js';
import { UsageError } from './output.js';

/** What was asked for. */
export interface SandboxChoice {
  readonly sandbox: SandboxLevel | 'auto' | undefined;
  readonly requireSandbox: SandboxLevel | undefined;
}

export const SANDBOX = {
  sandbox: value(
    '--sandbox LEVEL',
    'auto (default: the strongest that works here), landlock, bwrap, process, wasm or none',
    (given) => (given === 'auto' ? given : levelArgument(given, 'sandbox')),
  ),
  requireSandbox: value(
    '--require-sandbox LEVEL',
    'fail where no sandbox of that level, or a stronger one, can be had',
    (given) => levelArgument(given, 'require-sandbox'),
  ),
};

/** `none`: nothing but what the engine is anyway. */
function levelArgument(given: string, option: string): SandboxLevel {
  const found = given === 'none' ? 'wasm' : SANDBOX_LEVELS.find((level) => level === given);
  if (found !== undefined) return found;
  const known = [...(option === 'sandbox' ? ['auto'] : []), ...SANDBOX_LEVELS.toReversed(), 'none'];
  throw new UsageError(`--${option} expects one of ${known.join(', ')}, not '${given}'`);
}

/** The same for the library. */
export function sandboxOptions({ sandbox, requireSandbox }: SandboxChoice): Pick<SandboxOptions, 'level' | 'least'> {
  return { level: sandbox, least: requireSandbox };
}
