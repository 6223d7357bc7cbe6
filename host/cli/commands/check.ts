/** `corral check`: reads all tables of an image and says what is wrong with them. Changes nothing. */

import { type Command, Option } from 'commander';
import { Field, Structure } from '../../abi.js';
import type { CheckFinding, CheckReport } from '../../check-report.js';
import type { Image } from '../../image.js';
import { formatArgument, outputArgument } from '../arguments.js';
import type { Context } from '../context.js';
import { openFile, openImageIn, probeFormat } from '../open.js';
import { CommandError, formatJson, formatPercent, reasonOf, type Terminal } from '../output.js';
import { stopSignal } from '../signals.js';

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

/** Fewer findings than this are all that there are. */
const LISTED = 1000;

interface Options {
  format?: 'qcow2' | 'raw';
  output: 'human' | 'json';
  forceShare?: boolean;
  quiet?: boolean;
  repair?: string;
}

export function check(command: Command, context: Context): void {
  command
    .description(
      'Compares what refers to each cluster with the refcounts. Exit status: 0 no errors, 1 the check failed, ' +
        '2 errors, 3 leaked clusters only, 63 no format that can be checked.',
    )
    .argument('<file>', 'the image')
    .option('-f, --format <format>', 'qcow2 or raw; found out when not given', (text) => formatArgument(text))
    .option('--output <kind>', 'human or json', outputArgument, 'human')
    .option('-U, --force-share', 'also when another process writes to the image')
    .option('-q, --quiet', 'only findings, no summary')
    .addOption(new Option('-r, --repair <what>').hideHelp())
    .action(async (path: string, options: Options) => {
      context.exitCode = await checkImage(path, options, context.terminal);
    });
}

async function checkImage(path: string, options: Options, terminal: Terminal): Promise<Result> {
  if (options.repair !== undefined) throw new CommandError('Repairing (-r) is not supported yet: nothing was changed');
  const file = await openFile(path, { forceShare: options.forceShare, mayForceShare: true });
  const format = options.format ?? (await probeFormat(file));
  if (format === 'raw') {
    await file.close();
    throw new CommandError('This image format does not support checks', Result.Unsupported);
  }
  await using image = await openImageIn(file, path, { tablesOnly: true, requestCapacity: 1, checkSize: CHECK_SIZE });
  const report = await runCheck(image);
  const { clusterSize } = image.info;
  for (const finding of report.findings) terminal.note(findingLine(finding, clusterSize));
  if (report.findings.length >= LISTED && report.corruptions + report.leaks > report.findings.length) {
    terminal.note(`Only the first ${report.findings.length} findings are listed; the counts are of all.`);
  }
  if (options.output === 'json') terminal.print(`${formatJson(jsonReport(path, report))}\n`);
  else if (!options.quiet) terminal.print(humanReport(report));
  return result(report);
}

async function runCheck(image: Image): Promise<CheckReport> {
  const stop = stopSignal();
  try {
    return await image.check({ signal: stop.signal });
  } catch (error) {
    throw new CommandError(`Check failed: ${reasonOf(error)}`, Result.Failed, { cause: error });
  } finally {
    stop.release();
  }
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
    'total-clusters': unlessZero(report.totalClusters),
    corruptions: unlessZero(report.corruptions),
    'check-errors': report.checkErrors,
    leaks: unlessZero(report.leaks),
    'allocated-clusters': unlessZero(report.allocatedClusters),
    filename: path,
    'compressed-clusters': unlessZero(report.compressedClusters),
    format: 'qcow2',
    'fragmented-clusters': unlessZero(report.fragmentedClusters),
  };
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

const STRUCTURES: Readonly<Record<number, string>> = {
  [Structure.Header]: 'header',
  [Structure.L1Table]: 'L1 table',
  [Structure.L2Table]: 'L2 table',
  [Structure.RefcountTable]: 'refcount table',
  [Structure.RefcountBlock]: 'refcount block',
  [Structure.SnapshotTable]: 'snapshot table',
  [Structure.DataCluster]: 'data cluster',
};

/** One finding in one line; QEMU's words for the frequent ones. */
function findingLine(finding: CheckFinding, clusterSize: number): string {
  const { structure, field, hostOffset, found, expected, leak } = finding;
  const cluster = Math.floor(hostOffset / clusterSize);
  if (leak) return `Leaked cluster ${cluster} refcount=${found} reference=${expected}`;
  if (field === Field.Refcount) return `ERROR cluster ${cluster} refcount=${found} reference=${expected}`;
  const entry = `${STRUCTURES[structure] ?? 'structure'} entry ${found.toString(16)} at file offset 0x${hostOffset.toString(16)}`;
  switch (field) {
    case Field.ReservedBits:
      return `ERROR reserved bits are set: ${entry}`;
    case Field.Alignment:
      return `ERROR not cluster aligned: ${entry}`;
    case Field.Offset:
      return `ERROR points beyond the end of the file: ${entry}`;
    case Field.Copied:
      return `ERROR OFLAG_COPIED: ${entry}`;
    case Field.Overlap:
      return `ERROR overlaps another structure: ${entry}`;
    default:
      return `ERROR wrong ${fieldName(field)}: ${entry}, expected ${expected.toString(16)}`;
  }
}

/** "L1TableOffset" as "L1 table offset". */
function fieldName(field: number): string {
  const name = Object.entries(Field).find(([, value]) => value === field)?.[0] ?? 'Field';
  return name.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
