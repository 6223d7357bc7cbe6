/** The report of an inspection: a plain object, the same for the same bytes and options. `report.schema.json` describes it. */

import type { DiskReport } from './content.js';
import type { Check, Judgement } from './findings.js';
import type { Detected, FormatName } from './formats.js';
import type { LuksFacts } from './luks.js';
import type { ImageText, Reference } from './names.js';
import type { BitmapReport, SnapshotReport } from './qcow2-lists.js';
import type { Layout } from './qcow2-tables.js';
import type { Depth, Severity } from './rules.js';

/** Changes when a member changes its meaning or goes away; new members do not change it. */
export const REPORT_VERSION = 1;

/** Sizes, offsets and feature bits are decimal texts: they may be anything that 64 bits hold. */
export interface InspectReport {
  readonly schema: 'corral-inspect';
  readonly version: typeof REPORT_VERSION;
  readonly input: { readonly bytes: string };
  readonly options: {
    readonly policy: string;
    readonly failOn: Severity;
    readonly depth: Depth;
    readonly declared: FormatName | undefined;
  };
  /** On the image and on all of its chain. */
  readonly verdict: Judgement;
  readonly format: {
    /** What the file is taken for. */
    readonly name: FormatName;
    readonly detected: readonly { readonly name: Detected; readonly offset: string }[];
  };
  readonly virtualSize: string | undefined;
  readonly header: Readonly<Record<string, string>> | undefined;
  readonly features: Readonly<Record<string, { known: readonly string[]; unknownBits: string }>> | undefined;
  readonly extensions: readonly { name: string; offset: string; length: string }[];
  readonly references: readonly Reference[];
  /** Files behind the image that were inspected because they are allowed, nearest first. */
  readonly chain: readonly ChainLink[];
  readonly encryption: { method: string; luks: LuksFacts | undefined } | undefined;
  readonly snapshotCount: number;
  readonly snapshots: readonly SnapshotReport[];
  readonly bitmapCount: number;
  readonly bitmaps: readonly BitmapReport[];
  readonly layout: Layout | undefined;
  readonly content: readonly DiskReport[];
  readonly checks: readonly Check[];
  readonly limits: Readonly<Record<string, string>>;
  readonly resources: { readonly bytesRead: string; readonly reads: string };
}

/** A file behind the image. */
export interface ChainLink {
  readonly kind: 'backing-file' | 'data-file';
  /** Absolute. */
  readonly path: ImageText;
  readonly report: InspectReport;
}
