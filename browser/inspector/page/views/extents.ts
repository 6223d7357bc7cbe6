/** The map as a list: what a picture cannot say in words. */

import type { App } from '../app.js';
import { card, h } from '../dom.js';
import { runTask } from '../task.js';
import { bytesText, countText, hexText, visibleText } from '../text.js';
import { virtualList } from '../virtual-list.js';

/** Rows that are asked for at once. */
const PAGE_LENGTH = 128;

export function extentsSection(app: App, gone: AbortSignal): HTMLElement {
  const result = h('div', { class: 'extents', 'aria-live': 'polite' });
  const button = h('button', { type: 'button' }, 'Show as a list');
  button.addEventListener('click', () => {
    result.replaceChildren();
    void runTask(result, 'Reading the tables', gone, async (options) => {
      const { state } = app.place;
      const { total, complete } = await app.client.call('extents', { state, first: 0, count: 0 }, options);
      const text = `${countText(total, 'stretch').replace('stretchs', 'stretches')}${complete ? '' : ': the first of them'}`;
      return h('div', { 'data-extents': total }, h('p', {}, text), list(app, total, gone));
    });
  });
  return card('Extents', button, result);
}

function list(app: App, total: number, gone: AbortSignal): HTMLElement {
  const { state } = app.place;
  const pages = new Map<number, Promise<(Node | string)[][]>>();
  const page = (number: number): Promise<(Node | string)[][]> => {
    const known = pages.get(number);
    if (known !== undefined) return known;
    const request = { state, first: number * PAGE_LENGTH, count: PAGE_LENGTH };
    const rows = app.client
      .call('extents', request, { signal: gone })
      .then(({ extents }) => extents.map((extent) => rowOf(app, extent)));
    pages.set(number, rows);
    // A few pages are enough around what can be seen.
    for (const old of pages.keys()) if (pages.size > 8) pages.delete(old);
    return rows;
  };
  return virtualList({
    label: 'Extents',
    columns: ['Offset', 'Length', 'Kind', 'In the file at'],
    rowHeight: 32,
    count: total,
    async rows(first, count) {
      const numbers = new Set<number>();
      for (let at = first; at < Math.min(first + count, total); at++) numbers.add(Math.floor(at / PAGE_LENGTH));
      const found = await Promise.all([...numbers].map(page));
      const start = first - Math.min(...numbers) * PAGE_LENGTH;
      return found.flat().slice(start, start + count);
    },
  });
}

function rowOf(
  app: App,
  {
    offset,
    length,
    kind,
    depth,
    hostOffset,
  }: { offset: number; length: number; kind: string; depth: number; hostOffset: number | undefined },
): (Node | string)[] {
  const guest = h('a', { href: app.link({ view: 'hex', space: 'guest', offset }) }, hexText(offset));
  const layer = depth > 0 ? ` (${visibleText(app.overview.chain[depth]?.name ?? `layer ${depth}`)})` : '';
  const own = depth === 0 && hostOffset !== undefined && app.overview.facts?.hasDataFile === false;
  const place = hostOffset === undefined ? '' : hexText(hostOffset);
  const host = own ? h('a', { href: app.link({ view: 'hex', space: 'host', offset: hostOffset }) }, place) : place;
  return [guest, bytesText(length), `${kind}${layer}`, host];
}
