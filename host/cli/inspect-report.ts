/** What the command adds to the report of the library, and where a report goes. */

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import type { InspectReport } from '../inspect/report.js';
import { sarifOf } from '../inspect/sarif.js';
import { corePath } from '../node/core.js';
import { detailsOf, type SandboxLevel } from '../node/sandbox-levels.js';
import { inspectionText } from './inspect-text.js';
import { CommandError, escapeText, formatJson, type Json, reasonOf } from './output.js';
import { packageVersion } from './version.js';

export type ReportKind = 'human' | 'json' | 'sarif';

/** What a program can rely on beside the report itself. */
interface Circumstances {
  readonly tool: {
    readonly name: string;
    readonly version: string;
    readonly coreSha256: string;
    readonly node: string;
    readonly platform: string;
  };
  /** As the command line names it. */
  readonly source: string;
  readonly sandbox: { readonly level: SandboxLevel; readonly details: readonly string[] };
}

/** Prints a report of this image. */
export class Printer {
  private readonly report: Circumstances & InspectReport;

  constructor(
    report: InspectReport,
    private readonly source: string,
    level: SandboxLevel,
  ) {
    const coreSha256 = createHash('sha256').update(readFileSync(corePath())).digest('hex');
    const { version: node, platform, arch } = process;
    this.report = {
      tool: { name: 'corral', version: packageVersion(), coreSha256, node, platform: `${platform}-${arch}` },
      source,
      sandbox: { level, details: detailsOf(level) },
      ...report,
    };
  }

  text(kind: ReportKind): string {
    const { report, source } = this;
    if (kind === 'json') return jsonText(report as unknown as Json);
    if (kind === 'sarif') return jsonText(sarifOf(report, report.tool.version, source) as Json);
    // Who made the report may have fallen to the image.
    const lines = inspectionText(report, source, report.sandbox.level).split('\n');
    return lines.map(escapeText).join('\n');
  }

  /** Somebody else's file must not be overwritten because it was named by mistake. Throws `CommandError`. */
  writeTo(path: string): void {
    try {
      writeFileSync(path, this.text('json'), { flag: 'wx' });
    } catch (error) {
      throw new CommandError(`Could not write the report '${path}': ${reasonOf(error)}`, 1, { cause: error });
    }
  }
}

function jsonText(value: Json): string {
  return `${formatJson(value)}\n`;
}
