/** `corral inspect`: a verdict on an image from a stranger. Opens the file that is named on the command line, and no other. */

import { readFileSync } from 'node:fs';
import type { BlockFile } from '../../block-file.js';
import { CorralError } from '../../errors.js';
import type { AllowedReferences } from '../../inspect/allowed.js';
import { followChain } from '../../inspect/chain.js';
import { FORMAT_NAMES, type FormatName } from '../../inspect/formats.js';
import { DEFAULT_LIMITS, endedReport, type InspectLimits } from '../../inspect/inspect.js';
import { POLICY_NAMES, type Policy, type PolicyName, parsePolicy, policyOf } from '../../inspect/policy.js';
import type { InspectReport } from '../../inspect/report.js';
import { DEPTHS, type Depth, SEVERITIES, type Severity } from '../../inspect/rules.js';
import { runSandboxed, SandboxBroken } from '../../node/sandbox.js';
import type { InspectJob } from '../../node/sandbox-job.js';
import type { SandboxLevel } from '../../node/sandbox-levels.js';
import { countArgument, sizeParameter } from '../arguments.js';
import { FORCE_SHARE } from '../common-options.js';
import { STREAM_NAME } from '../image-name.js';
import { allowedReferences, openAllowed } from '../inspect-chain.js';
import { Printer, type ReportKind } from '../inspect-report.js';
import { openFile } from '../open.js';
import { flag, list, text, value } from '../option-table.js';
import { CommandError, reasonOf, type Terminal, UsageError } from '../output.js';
import { SANDBOX, type SandboxChoice, sandboxOptions } from '../sandbox-options.js';
import { stopSignal } from '../signals.js';
import { StreamedFile } from '../streamed-file.js';
import { defineVerb, oneOperand } from '../verb.js';

/** Bytes that a server sends beyond those that are asked for: it is asked for whole blocks. */
const ROUNDING = 16 * 1024 * 1024;

/** Exit statuses; 1 is for a command that could not do its work. */
const STATUSES = { accept: 0, reject: 2, incomplete: 3 } as const;

interface Options extends SandboxChoice {
  policy: string | undefined;
  declared: FormatName | undefined;
  depth: Depth | undefined;
  content: boolean;
  failOn: Severity | undefined;
  output: ReportKind | undefined;
  report: string | undefined;
  quiet: boolean;
  forceShare: boolean;
  maxVirtualSize: number | undefined;
  maxMemory: number | undefined;
  maxRead: number | undefined;
  maxTime: number | undefined;
  maxClusters: number | undefined;
  maxChain: number | undefined;
  allowReference: readonly string[];
}

export const inspect = defineVerb({
  about:
    'Says whether to accept an image from a stranger. No file is opened or looked for but the one that is named here.\n' +
    'Exit status: 0 accepted, 2 rejected, 3 not wholly inspected (never accept it), 1 the command failed.',
  operands: 'FILE|URL|-',
  options: {
    policy: text('--policy POLICY', `${POLICY_NAMES.join(', ')}, or a JSON file; default: upload`),
    declared: value('--declared FMT', 'what the file is said to be', (given) => oneOf(given, FORMAT_NAMES, 'declared')),
    depth: value('--depth DEPTH', 'header, tables (default) or full; of standard input (-) only header', (given) =>
      oneOf(given, DEPTHS, 'depth'),
    ),
    content: flag('--content', 'the same as --depth full'),
    allowReference: list(
      '--allow-reference GLOB',
      'files that the image may name: they are opened and inspected, too; * is a name, ** any folders',
    ),
    failOn: value('--fail-on SEVERITY', 'lowest severity that rejects: info, low, medium, high, critical', (given) =>
      oneOf(given, SEVERITIES, 'fail-on'),
    ),
    maxVirtualSize: size('max-virtual-size', 'bytes of the virtual disk'),
    maxMemory: size('max-memory', 'memory of the engine; default: 64M'),
    maxRead: size('max-read', 'bytes to read; default: 256M'),
    maxTime: value('--max-time SECONDS', 'time; default: 10', (given) => seconds(given)),
    maxClusters: size('max-clusters', 'clusters of the file; default: 64M'),
    maxChain: value('--max-chain COUNT', 'files behind the image; default: 16 where some are allowed', (given) =>
      countArgument(given, 'number of files', 0, 1000),
    ),
    output: value('--output KIND', 'human, json or sarif', (given) =>
      oneOf(given, ['human', 'json', 'sarif'] as const, 'output'),
    ),
    report: text('--report FILE', 'write the JSON report there, too; the file must not exist'),
    quiet: flag('-q, --quiet', 'print nothing: the exit status says it'),
    ...SANDBOX,
    ...FORCE_SHARE,
  },
  async run({ values, operands }, context) {
    const path = oneOperand(operands);
    const { report, level } = await inspectPath(path, values, context.terminal);
    const printer = new Printer(report, path, level);
    const text = printer.text(values.output ?? 'human');
    if (values.report !== undefined) printer.writeTo(values.report);
    if (!values.quiet) context.terminal.print(text);
    // Whatever it says: nothing but these words.
    context.exitCode = STATUSES[report.verdict.result] ?? STATUSES.reject;
  },
});

/** What one file is inspected with, in a sandbox of its own. */
interface Look {
  readonly declared: FormatName | undefined;
  readonly allowed: AllowedReferences | undefined;
  readonly limits: typeof DEFAULT_LIMITS & Partial<InspectLimits>;
}

interface Inspected {
  readonly report: InspectReport;
  readonly level: SandboxLevel;
}

/** Inspects the file, and those behind it that are allowed. */
async function inspectPath(path: string, options: Options, terminal: Terminal): Promise<Inspected> {
  const policy = chosenPolicy(options);
  const depth = chosenDepth(path, options);
  const limits = limitsOf(options);
  const allowed = allowedReferences(path, options.allowReference);
  const { signal, release } = stopSignal();
  const warn = (line: string): void => terminal.note(`Note: ${line}`);
  const access = { forceShare: options.forceShare, maximumBytes: limits.maxRead + ROUNDING, warn, signal };
  const look = (file: BlockFile, wanted: Look): Promise<Inspected> => {
    return inspectFile(file, { kind: 'inspect', policy, depth, ...wanted }, wanted.limits.maxTime, options, signal);
  };
  const end = performance.now() + limits.maxTime;
  const file = path === STREAM_NAME ? await receive() : await openFile(path, access);
  try {
    const first = await look(file, { declared: options.declared, allowed, limits });
    if (allowed === undefined) return first;
    const chain = { ...allowed, maxChain: options.maxChain, open: openAllowed(allowed, options.forceShare) };
    const report = await followChain(first.report, file, chain, async ({ file: next, declared, path, bytesRead }) => {
      const maxRead = Math.max(0, limits.maxRead - bytesRead);
      const left = { ...limits, maxRead, maxTime: Math.max(0, end - performance.now()) };
      return (await look(next, { declared, allowed: { ...allowed, path }, limits: left })).report;
    });
    return { ...first, report };
  } finally {
    release();
    await file.close();
  }
}

/** Inspects one file in the sandbox that was asked for; what the sandbox cannot end by itself is ended from here. */
async function inspectFile(
  file: BlockFile,
  job: InspectJob,
  maxTime: number,
  options: Options,
  signal: AbortSignal,
): Promise<Inspected> {
  const length = await file.size();
  const ended = (id: 'limit.time' | 'inspect.internal-error'): InspectReport => endedReport(length, job, id);
  try {
    const outcome = await runSandboxed(job, file, { ...sandboxOptions(options), maxTime, signal });
    return { report: outcome.answer ?? ended('limit.time'), level: outcome.level };
  } catch (error) {
    if (!(error instanceof SandboxBroken)) throw error;
    return { report: ended('inspect.internal-error'), level: error.level };
  }
}

/** Standard input goes by once: its headers are what can be looked at. */
async function receive(): Promise<StreamedFile> {
  try {
    return await StreamedFile.receive(process.stdin);
  } catch (error) {
    throw new CommandError(`Error while reading standard input: ${reasonOf(error)}`, 1, { cause: error });
  }
}

function chosenDepth(path: string, { content, depth }: Options): Depth {
  const wanted = content ? 'full' : depth;
  if (path !== STREAM_NAME) return wanted ?? 'tables';
  if (wanted !== undefined && wanted !== 'header') {
    throw new UsageError('Of standard input only the header can be inspected (--depth header)');
  }
  return 'header';
}

function chosenPolicy({ policy = 'upload', failOn }: Options): Policy {
  const known: readonly string[] = POLICY_NAMES;
  const chosen = known.includes(policy) ? policyOf(policy as PolicyName) : policyFile(policy);
  return failOn === undefined ? chosen : { ...chosen, failOn };
}

function policyFile(path: string): Policy {
  try {
    return parsePolicy(readFileSync(path, 'utf8'));
  } catch (error) {
    if (error instanceof CorralError) throw new CommandError(`'${path}': ${error.message}`, 1, { cause: error });
    throw new CommandError(`Could not read the policy '${path}': ${reasonOf(error)}`, 1, { cause: error });
  }
}

function limitsOf(options: Options): typeof DEFAULT_LIMITS & Partial<InspectLimits> {
  const { maxVirtualSize, maxMemory, maxRead, maxTime, maxClusters } = options;
  const given = Object.entries({ maxVirtualSize, maxMemory, maxRead, maxTime, maxClusters });
  return { ...DEFAULT_LIMITS, ...Object.fromEntries(given.filter(([, limit]) => limit !== undefined)) };
}

function oneOf<T extends string>(given: string, known: readonly T[], option: string): T {
  const found = known.find((name) => name === given);
  if (found === undefined) throw new UsageError(`--${option} expects one of ${known.join(', ')}, not '${given}'`);
  return found;
}

function size(name: string, about: string) {
  return value(`--${name} SIZE`, about, (given) => {
    const bytes = Number(sizeParameter(name, given));
    return Number.isSafeInteger(bytes) ? bytes : Number.MAX_SAFE_INTEGER;
  });
}

function seconds(given: string): number {
  return countArgument(given.replace(/s$/, ''), 'time limit', 0, 1_000_000) * 1000;
}
