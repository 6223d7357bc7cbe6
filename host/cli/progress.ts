/** How far it is, in QEMU's line. */

import { formatPercent, type Terminal } from './output.js';

export interface Progress {
  /** Least percents between two lines are one. */
  readonly report: (done: number, total: number) => void;
  /** Says that all is done, and ends the line. */
  finish(): void;
  /** Ends the line. */
  end(): void;
}

/** Shows nothing unless `show`. Begins with nothing done. */
export function showProgress(terminal: Terminal, show: boolean): Progress {
  let shown = Number.NEGATIVE_INFINITY;
  const report = (done: number, total: number): void => {
    const percent = total === 0 ? 100 : (done / total) * 100;
    if (!show || (percent - shown < 1 && !(done === total && shown < 100))) return;
    shown = percent;
    terminal.print(`    (${formatPercent(total === 0 ? 1 : done, total || 1)}/100%)\r`);
  };
  const end = (): void => {
    if (show) terminal.print('\n');
  };
  report(0, 1);
  return {
    report,
    finish() {
      report(1, 1);
      end();
    },
    end,
  };
}
