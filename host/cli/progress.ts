/** How far it is: a bar where somebody looks, QEMU's line where not, JSON lines for programs. */

import { formatPercent, type Terminal } from './output.js';

export interface Progress {
  /** Bytes that are done, of all. */
  readonly report: (done: number, total: number) => void;
  /** Says that all is done. */
  complete(): void;
  /** Says that all is done, and ends the line. */
  finish(): void;
  /** Ends the line. */
  end(): void;
}

/** For whom: a bar or a line of percents, or JSON lines. */
export type ProgressKind = 'people' | 'json';

/** Milliseconds between two pictures of the bar, or two JSON lines. */
const LEAST_PAUSE = 100;
const LONGEST_BAR = 40;
/** What stands around the bar. */
const FRAME = '    [] 100.0%   00:00:00'.length;

/** Shows nothing when no kind is given. Begins with nothing done. */
export function showProgress(
  terminal: Terminal,
  kind: ProgressKind | undefined,
  now: () => number = Date.now,
): Progress {
  if (kind === undefined) return { report() {}, complete() {}, finish() {}, end() {} };
  if (kind === 'json') return jsonLines(terminal, now);
  const line = barLine(terminal, now) ?? percentLine(terminal);
  const complete = (): void => line(1, 1);
  const end = (): void => terminal.print('\n');
  line(0, 1);
  return {
    report: (done, total) => line(total === 0 ? 1 : done, total || 1),
    complete,
    finish() {
      complete();
      end();
    },
    end,
  };
}

/** One object a line: bytes that are done, of how many, after how many seconds. The last one says that all is done. */
function jsonLines(terminal: Terminal, now: () => number): Progress {
  const start = now();
  let shownAt = Number.NEGATIVE_INFINITY;
  let [last, size] = [-1, 0];
  const print = (transferred: number): void => {
    const time = now();
    if (transferred === last || (transferred < size && time - shownAt < LEAST_PAUSE)) return;
    [last, shownAt] = [transferred, time];
    terminal.print(`${JSON.stringify({ transferred, size, elapsed: (time - start) / 1000 })}\n`);
  };
  const complete = (): void => print(size);
  return {
    report(done, total) {
      size = total;
      print(done);
    },
    complete,
    finish: complete,
    end() {},
  };
}

type Line = (done: number, total: number) => void;

/** QEMU's: least percents between two are one. */
function percentLine(terminal: Terminal): Line {
  let shown = Number.NEGATIVE_INFINITY;
  return (done, total) => {
    const percent = (done / total) * 100;
    if (percent - shown < 1 && !(done === total && shown < 100)) return;
    shown = percent;
    terminal.print(`    (${formatPercent(done, total)}/100%)\r`);
  };
}

/**
 * A bar, how much that is, and how long the rest will take; at the end how long all of it took. Undefined where there is no
 * terminal, or no room. Every picture is as long as the one that it is written over.
 */
function barLine(terminal: Terminal, now: () => number): Line | undefined {
  const { columns = 0 } = terminal;
  // The last column stays free: not every terminal can go back from there.
  const length = Math.min(LONGEST_BAR, columns - FRAME - 1);
  if (length < 1) return undefined;
  const start = now();
  let shownAt = Number.NEGATIVE_INFINITY;
  let complete = false;
  return (done, total) => {
    const time = now();
    if (complete || (done < total && time - shownAt < LEAST_PAUSE)) return;
    complete = done >= total;
    shownAt = time;
    const part = Math.min(1, done / total);
    const filled = Math.floor(part * length);
    // Not 100 before it is complete.
    const percent = (Math.floor(part * 1000) / 10).toFixed(1);
    const elapsed = time - start;
    const clock = complete ? elapsed : part === 0 ? undefined : elapsed * (1 / part - 1);
    const bar = `${'#'.repeat(filled)}${'.'.repeat(length - filled)}`;
    terminal.print(`    [${bar}] ${percent.padStart(5)}% ${clockText(clock).padStart(10)}\r`);
  };
}

/** Minutes and seconds, and hours when there are some. */
function clockText(milliseconds: number | undefined): string {
  if (milliseconds === undefined) return '--:--';
  const seconds = Math.round(milliseconds / 1000);
  if (seconds >= 100 * 3600) return '> 99 h';
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  const minutes = `${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
  return seconds < 3600 ? minutes : `${two(seconds / 3600)}:${minutes}`;
}
