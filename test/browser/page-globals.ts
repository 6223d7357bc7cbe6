/** What the test page has: functions that a test has run in there see these. */

import type * as Corral from '../../browser/index.js';

declare global {
  /** The library. */
  var corral: typeof Corral;
  /** Its engine in a worker. */
  var engine: Corral.BrowserEngine;
  /** The files that were chosen, in their order. */
  var chosen: () => File[];
  /** The private file system. */
  var root: FileSystemDirectoryHandle;
}
