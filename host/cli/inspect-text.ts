/** The report of an inspection for people: the verdict, what the image is, and every finding in a line. */

import type { Check, Evidence } from '../inspect/findings.js';
import type { Reference } from '../inspect/names.js';
import type { InspectReport } from '../inspect/report.js';
import { SEVERITIES } from '../inspect/rules.js';
import { humanSize } from './output.js';

/** Findings of one rule that are printed. */
const PRINTED = 5;

/** The caller escapes it, for the sake of `name`: what the report has of the image's texts is safe for a terminal. */
export function inspectionText(report: InspectReport, name: string, sandbox: string): string {
  const { verdict, options, format, virtualSize, references, layout } = report;
  const lines = [`${name}: ${verdict.result} (policy ${options.policy}, depth ${options.depth})`];
  const detected = format.detected.map((match) => match.name).join(', ');
  lines.push(
    `format: ${format.name}${detected === '' || detected === format.name ? '' : ` (recognised: ${detected})`}`,
  );
  lines.push(`sandbox: ${sandbox}`);
  if (virtualSize !== undefined) lines.push(`virtual size: ${humanSize(Number(virtualSize))} (${virtualSize} bytes)`);
  if (layout !== undefined) {
    lines.push(`mapped: ${layout.mappedClusters} of ${layout.totalClusters} clusters`);
  }
  lines.push(...references.map(referenceLine));
  if (report.snapshotCount > 0) lines.push(`snapshots: ${report.snapshotCount}`);
  if (report.bitmapCount > 0) lines.push(`bitmaps: ${report.bitmapCount}`);
  for (const { snapshot, table, holds, partitions } of report.content) {
    const disk = snapshot === undefined ? 'disk' : `disk of snapshot ${snapshot}`;
    lines.push(`${disk}: ${table === undefined ? holds.join(', ') || 'nothing recognised' : table}`);
    for (const part of partitions) {
      lines.push(
        `  partition at ${part.offset}, ${part.length} bytes: ${part.holds.join(', ') || 'nothing recognised'}`,
      );
    }
  }
  const found = report.checks.filter(({ count }) => count > 0);
  lines.push(...found.toSorted(bySeverity).flatMap(checkLines));
  if (found.length === 0) lines.push('no findings');
  const behind = report.chain.map(
    ({ kind, path, report: other }) => `${kind} ${inspectionText(other, path.text, sandbox)}`,
  );
  return `${lines.join('\n')}\n${behind.join('')}`;
}

function referenceLine({ kind, name, format, followed }: Reference): string {
  const shown = name === undefined ? 'without a name' : `"${name.text}"`;
  return `${kind}: ${shown}${format === undefined ? '' : `, format "${format.text}"`} (${followed ? 'allowed' : 'not opened'})`;
}

function bySeverity(first: Check, second: Check): number {
  return SEVERITIES.indexOf(second.severity) - SEVERITIES.indexOf(first.severity);
}

function checkLines({ id, severity, status, count, findings, advisories }: Check): string[] {
  const what = status === 'error' ? 'incomplete' : severity;
  const lines = findings.slice(0, PRINTED).map(({ message, evidence }) => {
    return `${what.padEnd(10)} ${id}: ${message}${evidenceText(evidence)}`;
  });
  if (count > lines.length) lines.push(`${what.padEnd(10)} ${id}: ${count - lines.length} more`);
  if (advisories.length > 0 && status === 'fail') lines.push(`${' '.repeat(11)}see ${advisories.join(', ')}`);
  return lines;
}

function evidenceText(evidence: Evidence): string {
  const { offset, length, value, limit } = evidence;
  const parts = Object.entries({ 'at byte': offset, length, found: value, limit })
    .filter(([, number]) => number !== undefined)
    .map(([name, number]) => `${name} ${number}`);
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}
