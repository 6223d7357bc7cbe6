/** What every command gets, and what it leaves behind. */

import type { ProgramDescription } from './description.js';
import type { Terminal } from './output.js';

export interface Context {
  readonly terminal: Terminal;
  /** The whole command line; loads every verb. */
  readonly describeProgram: () => Promise<ProgramDescription>;
  /** Status to exit with when the command returns. */
  exitCode: number;
}
