/** What the disk is divided into. */

import type { PartitionRow } from '../../protocol.js';
import type { App, View } from '../app.js';
import { card, h } from '../dom.js';
import { runTask } from '../task.js';
import { bytesText, hexText, visibleText } from '../text.js';

export function filesView(app: App, gone: AbortSignal): View {
  const table = h('div', { class: 'partitions' });
  const element = h('div', {}, card('Partitions', table));
  const { state } = app.place;
  void runTask(table, 'Looking for partitions', gone, async ({ signal }) => {
    const { table: kind, partitions } = await app.client.call('partitions', { state }, { signal });
    const title =
      kind === undefined ? 'No partition table: the disk as a whole.' : `${kind.toUpperCase()} partition table`;
    return h(
      'div',
      {},
      h('p', { class: 'hint' }, title),
      h('ul', { class: 'partition-list' }, ...partitions.map((row) => partitionItem(app, row))),
    );
  });
  return { element };
}

function partitionItem(app: App, { index, offset, length, type, holds }: PartitionRow): HTMLElement {
  const at = h('a', { href: app.link({ view: 'hex', space: 'guest', offset }) }, hexText(offset));
  const content = holds.length === 0 ? 'nothing that is known' : holds.map(visibleText).join(', ');
  return h(
    'li',
    {},
    h('strong', {}, `${index + 1}: ${content}`),
    h('span', { class: 'hint' }, ` ${bytesText(length)} at `, at, `, type ${type}`),
  );
}
