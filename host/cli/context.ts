/** What every command gets, and what it leaves behind. */

import type { Terminal } from './output.js';

export interface Context {
  readonly terminal: Terminal;
  /** Status to exit with when the command returns. */
  exitCode: number;
}
