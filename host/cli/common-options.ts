/** Options that many verbs have. */

import type { CacheMode } from '../cache-mode.js';
import { type MetricsAddress, parseMetricsAddress } from '../node/metrics-address.js';
import { cacheArgument } from './arguments.js';
import { flag, type Option, text, value } from './option-table.js';
import { AskedForHelp, reasonOf, UsageError } from './output.js';
import type { ProgressKind } from './progress.js';
import { objectHelp, readSecrets } from './secrets.js';

/** Secrets are looked at at once, so that a wrong one is told before anything is done. */
const OBJECT: Option<readonly string[]> = {
  shorts: [],
  longs: ['object'],
  argument: 'OBJDEF',
  about: 'secret,id=ID,data=TEXT or secret,id=ID,file=PATH: a key that other options name',
  initial: [],
  next(earlier, argument) {
    const help = objectHelp(argument);
    if (help !== undefined) throw new AskedForHelp(help);
    const all = [...earlier, argument];
    readSecrets(all);
    return all;
  },
};

/** How the image is named. */
export const IMAGE = {
  format: text('-f, --format FMT', 'format of the image: qcow2 or raw; found out when not given'),
  imageOpts: flag('--image-opts', 'the name is a list of options: driver=qcow2,file.filename=PATH'),
  object: OBJECT,
};

export const OBJECTS = { object: OBJECT };

export const FORCE_SHARE = { forceShare: flag('-U, --force-share', 'also when another process writes to the image') };

export const NO_BACKING = {
  noBacking: flag('--no-backing', 'open nothing that the image names: one with a backing or data file is refused'),
};

export const QUIET = { quiet: flag('-q, --quiet', 'print nothing but errors') };

/** JSON lines are asked for by `--progress=json`. */
const SHOW_PROGRESS: Option<ProgressKind | undefined> = {
  ...text(
    '-p, --progress',
    'show how far it is, on a terminal with the time that is left; json: in lines for programs',
  ),
  initial: undefined,
  attached: { argument: 'KIND', words: ['json'] },
  next(_, argument) {
    if (argument === '') return 'people';
    if (argument === 'json') return 'json';
    throw new UsageError(`--progress expects 'json' not '${argument}'`);
  },
};

export const PROGRESS = { progress: SHOW_PROGRESS };

export const OUTPUT = {
  output: value('--output KIND', 'human or json', (given): 'human' | 'json' => {
    if (given === 'human' || given === 'json') return given;
    throw new UsageError(`--output expects 'human' or 'json' not '${given}'`);
  }),
};

/** `-t`, `-T`: how the host's cache is used. */
export function cacheOption(
  names: string,
  what: 'cache' | 'source cache' = 'cache',
  exitCode = 1,
): Option<CacheMode | undefined> {
  return value(names, 'none, writeback, writethrough, directsync or unsafe', (given) =>
    cacheArgument(given, what, exitCode),
  );
}

/** Where a server tells what it does. */
export const METRICS = {
  metrics: value(
    '--metrics ADDRESS',
    'serve metrics for Prometheus (/metrics) and scripts (/metrics.json): unix:PATH, or HOST:PORT of this machine',
    metricsArgument,
  ),
};

function metricsArgument(text: string): MetricsAddress {
  try {
    return parseMetricsAddress(text);
  } catch (error) {
    throw new UsageError(reasonOf(error));
  }
}
