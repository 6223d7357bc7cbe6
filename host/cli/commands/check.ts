/** `corral check`: reads all tables of an image and says what is wrong with them; with `-r` puts it right. */

import type { BlockFile } from '../../block-file.js';
import type { CacheMode } from '../../cache-mode.js';
import type { CheckReport } from '../../check-report.js';
import { loadCore } from '../../node/core.js';
import { type RepairKind, repairImage } from '../../repair.js';
import { type CheckedImage, findingLines } from '../check-findings.js';
import { cacheOption, FORCE_SHARE, IMAGE, OUTPUT } from '../common-options.js';
import { withFaults } from '../faults.js';
import { readImageName } from '../image-name.js';
import { cannotOpen, openFile, openImageIn, probeFormat } from '../open.js';
import { flag, value } from '../option-table.js';
import { CommandError, formatJson, formatPercent, reasonIn, type Terminal, UsageError } from '../output.js';
import { stopSignal } from '../signals.js';
import { defineVerb, oneOperand } from '../verb.js';

/** QEMU's exit statuses. */
enum Result {
  Clean = 0,
  Failed = 1,
  Corrupt = 2,
  Leaks = 3,
  Unsupported = 63,
}

/** Memory for counting: the core checks a longer file in several rounds. */
const CHECK_SIZE = 16 * 1024 * 1024;
/** Of tables, each of which is read once or twice in the order of the file. */
const CACHE_SIZE = 256 * 1024;

/** Fewer findings than this are all that there are. */
const LISTED = 1000;

interface Options {
  format: string | undefined;
  imageOpts: boolean;
  output: 'human' | 'json' | undefined;
  forceShare: boolean;
  quiet: boolean;
  cache: CacheMode | undefined;
  repair: RepairKind | undefined;
}

export const check = defineVerb({
  about:
    'Compares what refers to each cluster with the refcounts, and repairs them with -r. Exit status: 0 no errors\n' +
    '(left), 1 the check failed, 2 errors, 3 leaked clusters only, 63 no format that can be checked.',
  operands: 'FILE',
  options: {
    ...IMAGE,
    ...OUTPUT,
    ...FORCE_SHARE,
    quiet: flag('-q, --quiet', 'only findings, no summary'),
    cache: cacheOption('-T, --cache CACHE', 'source cache'),
    repair: value('-r, --repair WHAT', 'leaks: free lost clusters; all: whatever loses no data', repairArgument),
  },
  async run({ values, operands }, context) {
    context.exitCode = await checkImage(oneOperand(operands), values, context.terminal);
  },
});

async function checkImage(text: string, options: Options, terminal: Terminal): Promise<Result> {
  const write = options.repair !== undefined;
  const name = readImageName(text, options);
  const { path, locked, generic } = name;
  const forceShare = options.forceShare || generic.forceShare === true;
  if (write && generic.readOnly) throw new CommandError(`Could not open '${text}': Block node is read-only`);
  if (write && forceShare) {
    throw new CommandError(`Could not open '${text}': force-share=on can only be used with read-only images`);
  }
  const plain = await openFile(path, { write, forceShare, locked, cache: options.cache, name: text });
  const format = name.format ?? (await probeFormat(plain));
  const file = withFaults(plain, name, format);
  if (format === 'raw') {
    await file.close();
    throw new CommandError('This image format does not support checks', Result.Unsupported);
  }
  const { info, report } =
    options.repair === undefined
      ? await checkOnly(file, path, text)
      : await repair(file, path, { kind: options.repair, text });
  const listed = report.findings.length;
  const all = report.corruptions + report.leaks + report.corruptionsFixed + report.leaksFixed;
  for (const line of findingLines(report, info)) terminal.note(line);
  if (listed >= LISTED && all > listed) {
    terminal.note(`Only the first ${listed} findings are listed; the counts are of all.`);
  }
  if (report.rebuilt) terminal.note('Rebuilding refcount structure');
  if (report.leaksKept) {
    terminal.note('Leaked clusters were left alone: damaged entries that cannot be repaired may have named them.');
  }
  if (report.needsRebuild) {
    terminal.note('ERROR need to rebuild refcount structures');
    throw new CommandError('Check failed: -r all can repair this; nothing was changed', Result.Failed);
  }
  if (options.output === 'json') terminal.print(`${formatJson(jsonReport(path, report))}\n`);
  else if (!options.quiet) terminal.print(repairedText(report) + humanReport(report));
  return result(report);
}

interface Outcome {
  readonly info: CheckedImage;
  readonly report: CheckReport;
}

async function checkOnly(file: BlockFile, path: string, name: string): Promise<Outcome> {
  const options = { tablesOnly: true, requestCapacity: 1, checkSize: CHECK_SIZE, cacheSize: CACHE_SIZE, name };
  await using image = await openImageIn(file, path, options);
  const report = await stoppable(name, (signal) => image.check({ signal }));
  return { info: image.info, report };
}

async function repair(
  file: BlockFile,
  path: string,
  { kind, text }: { kind: RepairKind; text: string },
): Promise<Outcome> {
  try {
    const options = { core: loadCore(), checkSize: CHECK_SIZE };
    const { info, report } = await stoppable(text, (signal) => repairImage(file, kind, { ...options, signal }));
    return { info, report };
  } catch (error) {
    // What cannot be opened, or not be repaired, is told in the words of opening.
    throw error instanceof CommandError ? error : cannotOpen(path, error, { name: text });
  } finally {
    await file.close();
  }
}

async function stoppable<T>(text: string, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = stopSignal();
  try {
    return await run(stop.signal);
  } catch (error) {
    throw new CommandError(`Check failed: ${reasonIn(text, error)}`, Result.Failed, { cause: error });
  } finally {
    stop.release();
  }
}

function repairArgument(text: string): RepairKind {
  if (text === 'leaks' || text === 'all') return text;
  throw new UsageError(`--repair (-r) expects 'leaks' or 'all' not '${text}'`);
}

function result({ checkErrors, corruptions, leaks }: CheckReport): Result {
  if (checkErrors > 0) return Result.Failed;
  if (corruptions > 0) return Result.Corrupt;
  return leaks > 0 ? Result.Leaks : Result.Clean;
}

function jsonReport(path: string, report: CheckReport) {
  const unlessZero = (value: number): number | undefined => (value === 0 ? undefined : value);
  return {
    'image-end-offset': unlessZero(report.imageEndOffset),
    'compressed-clusters': unlessZero(report.compressedClusters),
    'total-clusters': unlessZero(report.totalClusters),
    corruptions: unlessZero(report.corruptions),
    'corruptions-fixed': unlessZero(report.corruptionsFixed),
    'check-errors': report.checkErrors,
    leaks: unlessZero(report.leaks),
    'leaks-fixed': unlessZero(report.leaksFixed),
    'allocated-clusters': unlessZero(report.allocatedClusters),
    filename: path,
    format: 'qcow2',
    'fragmented-clusters': unlessZero(report.fragmentedClusters),
  };
}

function repairedText({ corruptionsFixed, leaksFixed }: CheckReport): string {
  if (corruptionsFixed + leaksFixed === 0) return '';
  return (
    'The following inconsistencies were found and repaired:\n\n' +
    `    ${leaksFixed} leaked clusters\n    ${corruptionsFixed} corruptions\n\n` +
    'Double checking the fixed image now...\n'
  );
}

function humanReport(report: CheckReport): string {
  const { corruptions, leaks, checkErrors, allocatedClusters, totalClusters } = report;
  let text = '';
  if (corruptions + leaks + checkErrors === 0) text += 'No errors were found on the image.\n';
  if (corruptions > 0) {
    text += `\n${corruptions} errors were found on the image.\n`;
    text += 'Data may be corrupted, or further writes to the image may corrupt it.\n';
  }
  if (leaks > 0) {
    text += `\n${leaks} leaked clusters were found on the image.\n`;
    text += 'This means waste of disk space, but no harm to data.\n';
  }
  if (checkErrors > 0) text += `\n${checkErrors} internal errors have occurred during the check.\n`;
  if (totalClusters > 0 && allocatedClusters > 0) {
    text +=
      `${allocatedClusters}/${totalClusters} = ${formatPercent(allocatedClusters, totalClusters)}% allocated, ` +
      `${formatPercent(report.fragmentedClusters, allocatedClusters)}% fragmented, ` +
      `${formatPercent(report.compressedClusters, allocatedClusters)}% compressed clusters\n`;
  }
  if (report.imageEndOffset > 0) text += `Image end offset: ${report.imageEndOffset}\n`;
  return text;
}
