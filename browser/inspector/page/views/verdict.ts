/** Whether to accept the image, and everything that was found, the worst first. */

import type { Check, Evidence, Verdict } from '../../../../host/inspect/findings.js';
import { POLICY_NAMES, type PolicyName } from '../../../../host/inspect/policy.js';
import type { InspectReport } from '../../../../host/inspect/report.js';
import { ruleOf, SEVERITIES } from '../../../../host/inspect/rules.js';
import type { App } from '../app.js';
import { h } from '../dom.js';
import { runTask } from '../task.js';
import { countText } from '../text.js';

const WORDS: Readonly<Record<Verdict, { title: string; says: string }>> = {
  accept: { title: 'Accept', says: 'Nothing in it that this policy rejects.' },
  reject: { title: 'Reject', says: 'Do not give this image to a program that trusts it.' },
  incomplete: { title: 'Not wholly inspected', says: 'It could not be looked at to its end: treat it as rejected.' },
};

const POLICIES: Readonly<Record<PolicyName, string>> = {
  upload: 'upload: an image from a stranger',
  strict: 'strict: only the plainest qcow2',
  openstack: 'openstack: the formats of a cloud',
  forensic: 'forensic: what is it, whatever it is',
};

/** Findings of one rule that are shown. */
const SHOWN = 8;

/** The element fills itself; it begins anew when another policy is chosen. */
export function verdictSection(app: App, gone: AbortSignal): HTMLElement {
  const body = h('div', { class: 'verdict-body', 'aria-live': 'polite' });
  const options = POLICY_NAMES.map((name) => h('option', { value: name }, POLICIES[name]));
  const select = h('select', { id: 'policy' }, ...options);
  const label = h('label', { class: 'policy', for: 'policy' }, 'Policy ', select);
  const look = (): void => {
    const policy = select.value as PolicyName;
    body.replaceChildren();
    void runTask(body, 'Inspecting every table', gone, async ({ signal }) => {
      const report = await app.client.call('verdict', { policy }, { signal });
      return reportElement(app, report);
    });
  };
  select.addEventListener('change', look);
  look();
  return h('section', { class: 'verdict', 'aria-label': 'Verdict' }, body, label);
}

function reportElement(app: App, report: InspectReport): HTMLElement {
  const { result } = report.verdict;
  const { title, says } = WORDS[result];
  const found = report.checks.filter(({ count }) => count > 0).toSorted(bySeverity);
  const passed = report.checks.filter(({ status }) => status === 'pass').length;
  const banner = h(
    'div',
    { class: `banner ${result}`, 'data-verdict': result },
    h('span', { class: 'mark', 'aria-hidden': 'true' }, MARKS[result]),
    h('div', {}, h('h2', {}, title), h('p', {}, says)),
  );
  const summary = `${countText(found.length, 'kind')} of findings; ${countText(passed, 'rule')} without one.`;
  const list = h('ul', { class: 'findings' }, ...found.map((check) => findingElement(app, check)));
  return h('div', {}, banner, h('p', { class: 'hint' }, summary), found.length > 0 && list);
}

const MARKS: Readonly<Record<Verdict, string>> = { accept: '✓', reject: '✕', incomplete: '?' };

function bySeverity(first: Check, second: Check): number {
  const weight = ({ severity, status }: Check): number => (status === 'error' ? 99 : SEVERITIES.indexOf(severity));
  return weight(second) - weight(first);
}

function findingElement(app: App, { id, severity, status, count, findings, advisories }: Check): HTMLElement {
  const word = status === 'error' ? 'incomplete' : severity;
  const lines = findings.slice(0, SHOWN).map(({ message, evidence }) => {
    return h('li', {}, message, ' ', evidenceElement(app, evidence));
  });
  if (count > lines.length) lines.push(h('li', {}, `and ${(count - lines.length).toLocaleString('en')} more`));
  const { title } = ruleOf(id);
  return h(
    'li',
    { 'data-rule': id },
    h('span', { class: `severity ${word}` }, word),
    h(
      'div',
      {},
      h('h3', {}, title.charAt(0).toUpperCase() + title.slice(1), ' ', h('code', {}, id)),
      h('ul', {}, ...lines),
      advisories.length > 0 && h('p', { class: 'hint' }, `See ${advisories.join(', ')}`),
    ),
  );
}

function evidenceElement(app: App, { offset, length, value, limit }: Evidence): HTMLElement {
  const parts: (Node | string)[] = [];
  const at = offset === undefined ? Number.NaN : Number(offset);
  if (offset !== undefined) {
    const inFile = Number.isSafeInteger(at) && at < app.overview.fileLength;
    const href = app.link({ view: 'hex', space: 'host', offset: at });
    parts.push('at byte ', inFile ? h('a', { href }, offset) : offset);
  }
  for (const [name, number] of Object.entries({ length, found: value, limit })) {
    if (number !== undefined) parts.push(`${parts.length === 0 ? '' : ', '}${name} ${number}`);
  }
  return h('span', { class: 'evidence' }, ...parts);
}
