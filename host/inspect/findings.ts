/** The findings of one inspection: collected by rule, counted all, kept up to a number that nobody's image can raise. */

import type { AllowedReferences } from './allowed.js';
import { type Policy, rejects, severityOf } from './policy.js';
import { DEPTHS, type Depth, RULE_IDS, type RuleId, ruleOf, type Severity } from './rules.js';

/** Findings with their evidence in one report. A report must not become an attack itself. */
const MAXIMUM_FINDINGS = 1000;
/** Of one rule: so that no rule hides the others. */
const MAXIMUM_OF_RULE = 50;

/** Where it was found, and what. Numbers are decimal texts: they may be anything that 64 bits hold. */
export interface Evidence {
  /** Byte of the file. */
  readonly offset?: string;
  /** Bytes. */
  readonly length?: string;
  readonly value?: string;
  /** What is allowed at most, or expected. */
  readonly limit?: string;
}

export interface Finding {
  /** A sentence without text from the image. */
  readonly message: string;
  readonly evidence: Evidence;
}

/** What became of one rule. */
export interface Check {
  readonly id: RuleId;
  readonly severity: Severity;
  /** `skip`: not looked for; `error`: the inspection could not come to its end because of it. */
  readonly status: 'pass' | 'fail' | 'skip' | 'error';
  /** Findings, of which the first ones are listed. */
  readonly count: number;
  readonly findings: readonly Finding[];
  readonly advisories: readonly string[];
}

/** Whole numbers as evidence. */
export interface Numbers {
  readonly offset?: number | bigint | undefined;
  readonly length?: number | bigint | undefined;
  readonly value?: number | bigint | undefined;
  readonly limit?: number | bigint | undefined;
}

export class Findings {
  private readonly found = new Map<RuleId, { count: number; listed: Finding[] }>();
  private listed = 0;
  /** How far the inspection has come: rules of later depths were not looked at. */
  private reached: Depth | undefined;
  private readonly skipped = new Set<RuleId>();

  /** @param allowed files that the image may name */
  constructor(
    readonly policy: Policy,
    readonly allowed?: AllowedReferences,
  ) {}

  /** Notes a finding, `times` of its kind. */
  add(id: RuleId, message: string, numbers: Numbers = {}, times = 1): void {
    const entry = this.found.get(id) ?? { count: 0, listed: [] };
    this.found.set(id, entry);
    entry.count += times;
    if (entry.listed.length >= MAXIMUM_OF_RULE || this.listed >= MAXIMUM_FINDINGS) return;
    this.listed++;
    entry.listed.push({ message, evidence: evidenceOf(numbers) });
  }

  has(id: RuleId): boolean {
    return this.found.has(id);
  }

  /** Every rule of that depth, and of those before, has been looked at. */
  finish(depth: Depth): void {
    this.reached = depth;
  }

  /** These rules do not apply to this image, or could not be looked at. */
  skip(ids: readonly RuleId[]): void {
    for (const id of ids) this.skipped.add(id);
  }

  /** Every rule, in the order of the catalogue. */
  checks(): Check[] {
    return RULE_IDS.map((id) => this.checkOf(id));
  }

  private checkOf(id: RuleId): Check {
    const { depth, incomplete, advisories = [] } = ruleOf(id);
    const found = this.found.get(id);
    const seen = this.reached !== undefined && DEPTHS.indexOf(depth) <= DEPTHS.indexOf(this.reached);
    const failed = incomplete ? 'error' : 'fail';
    const clean = seen && !this.skipped.has(id) ? 'pass' : 'skip';
    return {
      id,
      severity: severityOf(this.policy, id),
      status: found === undefined ? clean : failed,
      count: found?.count ?? 0,
      findings: found?.listed ?? [],
      advisories,
    };
  }

  /** The header was looked at, at least. */
  get hasBegun(): boolean {
    return this.reached !== undefined;
  }
}

export type Verdict = 'accept' | 'reject' | 'incomplete';

export interface Judgement {
  readonly result: Verdict;
  /** Rules whose findings reject. */
  readonly failed: readonly RuleId[];
  /** Rules that say why the inspection could not come to its end. */
  readonly incomplete: readonly RuleId[];
}

/** What is left to say of the image. Never accept when something was not looked at. */
export function verdictOf(checks: readonly Check[], failOn: Severity, hasBegun: boolean): Judgement {
  const failed = checks.filter(({ status, severity }) => status === 'fail' && rejects({ failOn }, severity));
  const incomplete = checks.filter(({ status }) => status === 'error');
  const ids = (some: readonly Check[]) => some.map(({ id }) => id);
  const unsure = incomplete.length > 0 || !hasBegun ? 'incomplete' : 'accept';
  return { result: failed.length > 0 ? 'reject' : unsure, failed: ids(failed), incomplete: ids(incomplete) };
}

function evidenceOf(numbers: Numbers): Evidence {
  const entries = Object.entries(numbers).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name, decimal(value as number | bigint)]));
}

/** Numbers beyond 2^53 are shown in full, too; what an image calls a number may be none. */
function decimal(value: number | bigint): string {
  return Number.isInteger(value) ? BigInt(value).toString() : String(value);
}
