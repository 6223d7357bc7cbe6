/** The report as SARIF 2.1.0: for the tools that show findings of scanners. */

import type { Check, Finding } from './findings.js';
import type { InspectReport } from './report.js';
import { RULES, type Severity } from './rules.js';

const SCHEMA = 'https://json.schemastore.org/sarif-2.1.0.json';

const LEVELS: Readonly<Record<Severity, 'note' | 'warning' | 'error'>> = {
  info: 'note',
  low: 'note',
  medium: 'warning',
  high: 'error',
  critical: 'error',
};

/** The log of one run, a plain object. `path` names the image as the caller does. */
export function sarifOf(report: InspectReport, version: string, path: string): unknown {
  const files = [{ report, path }, ...report.chain.map((link) => ({ report: link.report, path: link.path.text }))];
  const { result } = report.verdict;
  return {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: [
      {
        tool: { driver: { name: 'corral', version, rules: report.checks.map(ruleOf) } },
        artifacts: files.map((file) => ({ location: { uri: uriOf(file.path) } })),
        invocations: [
          {
            executionSuccessful: result !== 'incomplete',
            exitCodeDescription: result,
            properties: { verdict: result },
          },
        ],
        results: files.flatMap((file) => resultsOf(file.report, file.path)),
      },
    ],
  };
}

function resultsOf({ checks }: InspectReport, path: string): unknown[] {
  return checks.flatMap((check) => check.findings.map((finding) => resultOf(check, finding, path)));
}

function ruleOf({ id, severity, advisories }: Check): unknown {
  return {
    id,
    shortDescription: { text: RULES[id].title },
    defaultConfiguration: { level: LEVELS[severity] },
    properties: { tags: [severity, ...advisories] },
  };
}

function resultOf({ id, severity }: Check, { message, evidence }: Finding, path: string): unknown {
  const { offset, length } = evidence;
  const region =
    offset === undefined
      ? undefined
      : { byteOffset: BigInt(offset), ...(length === undefined ? {} : { byteLength: BigInt(length) }) };
  return {
    ruleId: id,
    level: LEVELS[severity],
    message: { text: message },
    locations: [{ physicalLocation: { artifactLocation: { uri: uriOf(path) }, region } }],
    properties: evidence,
  };
}

/** A URL, or a path as a relative or absolute reference. */
function uriOf(path: string): string {
  return /^https?:\/\//i.test(path) ? encodeURI(path) : path.split('/').map(encodeURIComponent).join('/');
}
