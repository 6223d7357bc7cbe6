/**
 * A line on standard error from a thread that never gets to its event loop: `process.stderr` would keep it there for ever, and has
 * no descriptor in a worker.
 */
import { writeSync } from 'node:fs';

const STANDARD_ERROR = 2;

/** Never throws: whatever became of standard error, the thread has a disk to serve. */
export function noteFromThread(line: string): void {
  try {
    writeSync(STANDARD_ERROR, `${line}\n`);
  } catch {
    // Nobody can be told of it there.
  }
}
