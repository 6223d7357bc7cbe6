/** The first view: the verdict, then what the image is. */

import type { CheckReport } from '../../../../host/check-report.js';
import type { ImageFacts } from '../../../../host/image-facts.js';
import type { App, View } from '../app.js';
import { card, definitions, h } from '../dom.js';
import { problemBox, runTask } from '../task.js';
import { bytesText, countText, exactBytes, hexText, visibleText } from '../text.js';
import { verdictSection } from './verdict.js';

export function summaryView(app: App, gone: AbortSignal): View {
  const { problems, facts, traces } = app.overview;
  const element = h(
    'div',
    { class: 'columns' },
    h(
      'div',
      {},
      verdictSection(app, gone),
      problems.length > 0 && card('What could not be done', ...problems.map(problemBox)),
      facts !== undefined && checkCard(app, gone),
      traces.length > 0 &&
        h(
          'section',
          { class: 'card late' },
          h('h2', {}, 'Traces of its creator'),
          definitions(traces.map(({ what, tells }) => [what, tells] as const)),
        ),
    ),
    h(
      'div',
      {},
      card('Overview', overviewList(app)),
      card('Backing chain', chainList(app)),
      facts !== undefined && card('Structures', structureList(app, facts)),
    ),
  );
  return { element };
}

function overviewList({ overview }: App): HTMLElement {
  const { facts, fileLength, size, format, snapshots, bitmaps } = overview;
  const common = [
    ['Disk', size > 0 ? exactBytes(size) : 'unknown'] as const,
    ['File', exactBytes(fileLength)] as const,
  ];
  if (facts === undefined) return definitions([['Format', format], ...common]);
  return definitions([
    ['Format', `qcow2, version ${facts.version} (compat ${facts.version === 2 ? '0.10' : '1.1'})`],
    ...common,
    ['Cluster size', exactBytes(facts.clusterSize)],
    ['Refcount width', countText(facts.refcountBits, 'bit')],
    ['Compression', facts.compressionType],
    ['Encryption', facts.encryption],
    ['Extended L2 entries', facts.extendedL2 ? `yes: subclusters of ${bytesText(facts.clusterSize / 32)}` : 'no'],
    ['Lazy refcounts', facts.lazyRefcounts ? 'yes' : 'no'],
    ['Closed cleanly', facts.dirty ? 'no: the dirty bit is set' : 'yes'],
    ['Marked as corrupt', facts.corrupt ? 'yes' : 'no'],
    ['External data file', facts.hasDataFile && dataFileText(facts)],
    ['Snapshots', String(snapshots.length)],
    ['Bitmaps', String(bitmaps.length)],
  ]);
}

function dataFileText({ dataFile, dataFileRaw }: ImageFacts): string {
  return `${dataFile === undefined ? 'without a name' : visibleText(dataFile)}${dataFileRaw ? ', a raw disk' : ''}`;
}

function structureList(app: App, facts: ImageFacts): HTMLElement {
  const at = (offset: number): HTMLElement =>
    h('a', { href: app.link({ view: 'hex', space: 'host', offset }) }, hexText(offset));
  const features = [facts.incompatibleFeatures, facts.compatibleFeatures, facts.autoclearFeatures];
  return definitions([
    ['Header', at(0)],
    [
      'L1 table',
      h('span', {}, at(facts.l1TableOffset), `, ${countText(facts.l1Size, 'entry').replace('entrys', 'entries')}`),
    ],
    [
      'Refcount table',
      h('span', {}, at(facts.refcountTableOffset), `, ${countText(facts.refcountTableClusters, 'cluster')}`),
    ],
    ['Features', `incompatible, compatible, autoclear: ${features.map((bits) => `0x${bits.toString(16)}`).join(', ')}`],
  ]);
}

function chainList({ overview }: App): HTMLElement {
  const links = overview.chain.map(({ name, format, size, present }, depth) => {
    const what = present ? `${format}${size === undefined ? '' : `, ${bytesText(size)}`}` : `${format}, not there`;
    const role = depth === 0 ? 'this image' : `${countText(depth, 'layer')} behind`;
    return h(
      'li',
      { class: present ? '' : 'missing' },
      h('span', { class: 'name' }, visibleText(name)),
      h('span', { class: 'hint' }, `${what}; ${role}`),
    );
  });
  return h('ol', { class: 'chain' }, ...links);
}

function checkCard(app: App, gone: AbortSignal): HTMLElement {
  const result = h('div', { 'aria-live': 'polite', class: 'check-result' });
  const start = h('button', { type: 'button', class: 'check-start' }, 'Count every reference');
  start.addEventListener('click', () => {
    result.replaceChildren();
    void runTask(result, 'Checking', gone, async (options) =>
      checkElement(await app.client.call('check', undefined, options)),
    );
  });
  const hint = h('p', { class: 'hint' }, 'The counts of ', h('code', {}, 'qemu-img check'), '. Nothing is changed.');
  return card('Check', hint, start, result);
}

function checkElement(report: CheckReport): HTMLElement {
  const { corruptions, leaks, checkErrors, allocatedClusters, totalClusters } = report;
  const sound = corruptions + leaks + checkErrors === 0;
  const rows: [string, number][] = [
    ['Errors', corruptions],
    ['Leaked clusters', leaks],
    ['Could not be checked', checkErrors],
    ['Allocated clusters', allocatedClusters],
    ['Clusters of the disk', totalClusters],
    ['Compressed clusters', report.compressedClusters],
    ['Fragmented clusters', report.fragmentedClusters],
    ['End of the image, byte', report.imageEndOffset],
  ];
  const title = sound ? 'No errors were found.' : 'Errors were found. Let corral check -r repair a copy.';
  const cells = rows.map(([term, value]) => [term, value.toLocaleString('en')] as const);
  return h('div', { 'data-check': JSON.stringify(Object.fromEntries(rows)) }, h('p', {}, title), definitions(cells));
}
