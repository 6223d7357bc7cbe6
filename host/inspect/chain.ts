/**
 * The files behind an inspected image, as far as its owner allows them: each is inspected by itself, and the verdict is the
 * worst of all. Without leave nothing is opened, whatever an image names.
 */

import type { BlockFile } from '../block-file.js';
import { CorralError } from '../errors.js';
import { type AllowedReferences, allowedPath } from './allowed.js';
import { type Finding, verdictOf } from './findings.js';
import type { FormatName } from './formats.js';
import { FORMAT_NAMES } from './formats.js';
import { imageText, type Reference } from './names.js';
import type { ChainLink, InspectReport } from './report.js';
import type { RuleId } from './rules.js';

/** Files behind an image that are inspected when nothing else is said. */
export const DEFAULT_MAX_CHAIN = 16;

export interface ChainOptions extends AllowedReferences {
  /** Files behind the first one at most; default 16. */
  readonly maxChain?: number | undefined;
  /** Opens an allowed file for reading; it is closed here. */
  open(path: string): Promise<BlockFile>;
}

/** What is inspected next. */
export interface NextFile {
  readonly file: BlockFile;
  /** What the image says that it is. */
  readonly declared: FormatName;
  readonly path: string;
  /** Bytes of all files that were read for the inspection so far. */
  readonly bytesRead: number;
}

/** Follows what `first`, the report on `file`, has found to be allowed. `look` inspects one file. */
export async function followChain(
  first: InspectReport,
  file: BlockFile,
  options: ChainOptions,
  look: (next: NextFile) => Promise<InspectReport>,
): Promise<InspectReport> {
  const walk = new Walk(options, look);
  const report = await walk.follow(first, { path: options.path, identity: file.identity }, []);
  return walk.links.length === 0 ? report : withChain(report, walk.links);
}

/** A file that is being followed; `identity` as in `BlockFile`. */
interface Place {
  readonly path: string;
  readonly identity: string | undefined;
}

class Walk {
  /** Nearest first. */
  readonly links: ChainLink[] = [];
  private bytesRead = 0;

  constructor(
    private readonly options: ChainOptions,
    private readonly look: (next: NextFile) => Promise<InspectReport>,
  ) {}

  /** The report with what is wrong about the files that it names. `above`: what led here. */
  async follow(report: InspectReport, place: Place, above: readonly Place[]): Promise<InspectReport> {
    this.bytesRead += Number(report.resources.bytesRead);
    let judged = report;
    const references: Reference[] = [];
    for (const reference of report.references) {
      const next = this.pathOf(reference, place.path);
      const fault = next === undefined ? undefined : await this.visit(reference, next, [...above, place]);
      if (fault !== undefined) judged = withFinding(judged, fault.id, fault.finding);
      references.push({ ...reference, followed: next !== undefined && fault === undefined });
    }
    return { ...judged, references };
  }

  /** Where the file is. Who made the report may have fallen to the image: what it says is asked for anew. */
  private pathOf({ kind, name, followed }: Reference, from: string): string | undefined {
    if (!followed || name === undefined || (kind !== 'backing-file' && kind !== 'data-file')) return undefined;
    const bytes = Uint8Array.from(atob(name.bytesBase64), (character) => character.charCodeAt(0));
    return allowedPath(kind, bytes, { ...this.options, path: from });
  }

  private async visit(
    { kind, format }: Reference,
    path: string,
    above: readonly Place[],
  ): Promise<{ id: RuleId; finding: Finding } | undefined> {
    const { maxChain = DEFAULT_MAX_CHAIN, open } = this.options;
    if (above.some((place) => place.path === path)) return CYCLE;
    if (this.links.length >= maxChain) {
      const evidence = { value: String(this.links.length + 1), limit: String(maxChain) };
      return { id: 'ref.depth', finding: { message: 'More files lie behind the image than are allowed', evidence } };
    }
    let file: BlockFile;
    try {
      file = await open(path);
    } catch (error) {
      if (error instanceof CorralError && error.code === 'ERR_CANCELLED') throw error;
      return {
        id: 'inspect.read-error',
        finding: { message: 'A file that is allowed cannot be opened', evidence: {} },
      };
    }
    try {
      const { identity } = file;
      if (identity !== undefined && above.some((place) => place.identity === identity)) return CYCLE;
      const declared = kind === 'data-file' ? 'raw' : formatOf(format);
      const report = await this.look({ file, declared, path, bytesRead: this.bytesRead });
      const index = this.links.length;
      const link = { kind: kind as ChainLink['kind'], path: imageText(new TextEncoder().encode(path)) };
      this.links.push({ ...link, report });
      this.links[index] = { ...link, report: await this.follow(report, { path, identity }, above) };
      return undefined;
    } finally {
      await file.close();
    }
  }
}

const CYCLE = { id: 'ref.cycle', finding: { message: 'The image continues from itself', evidence: {} } } as const;

/** Only references with a format that is known are allowed. */
function formatOf(format: Reference['format']): FormatName {
  return FORMAT_NAMES.find((name) => name === format?.text) ?? 'raw';
}

function withFinding(report: InspectReport, id: RuleId, finding: Finding): InspectReport {
  const checks = report.checks.map((check) => {
    if (check.id !== id) return check;
    const status = id.startsWith('ref.') ? ('fail' as const) : ('error' as const);
    return { ...check, status, count: check.count + 1, findings: [...check.findings, finding] };
  });
  return { ...report, checks, verdict: verdictOf(checks, report.options.failOn, true) };
}

/** The verdict on all of them: what one of them is rejected for rejects all. */
function withChain(report: InspectReport, chain: readonly ChainLink[]): InspectReport {
  const verdicts = [report, ...chain.map((link) => link.report)].map(({ verdict }) => verdict);
  const results = verdicts.map(({ result }) => result);
  const worst = (['reject', 'incomplete'] as const).find((result) => results.includes(result)) ?? 'accept';
  const all = (key: 'failed' | 'incomplete'): RuleId[] => [...new Set(verdicts.flatMap((verdict) => verdict[key]))];
  return { ...report, verdict: { result: worst, failed: all('failed'), incomplete: all('incomplete') }, chain };
}
