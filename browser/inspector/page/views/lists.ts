/** Snapshots with what has changed since, and bitmaps with what is dirty. */

import type { Ranges } from '../../protocol.js';
import type { App, View } from '../app.js';
import type { CallOptions } from '../client.js';
import { card, definitions, h } from '../dom.js';
import { runTask } from '../task.js';
import { bytesText, countText, dateText, exactBytes, hexText, percentText, visibleText } from '../text.js';
import { virtualList } from '../virtual-list.js';

export function snapshotsView(app: App, gone: AbortSignal): View {
  const { snapshots, readable } = app.overview;
  if (snapshots.length === 0) return nothing('There are no internal snapshots in this image.');
  const cards = snapshots.map(({ id, name, date, diskSize, vmStateSize }, index) => {
    const facts = definitions([
      ['Id', visibleText(id)],
      ['Made', dateText(date)],
      ['Disk', exactBytes(diskSize)],
      ['State of the machine', vmStateSize > 0 ? exactBytes(vmStateSize) : 'none'],
    ]);
    const look = h(
      'a',
      { class: 'button', href: app.link({ view: 'map', space: 'guest', state: index }) },
      'Look at it',
    );
    const changes = rangesButton(app, gone, 'What changed since', (options) =>
      app.client.call('changes', { state: index }, options),
    );
    return h(
      'section',
      { class: 'card', 'data-snapshot': index },
      h('h2', {}, visibleText(name)),
      facts,
      readable && look,
      readable && changes,
    );
  });
  return { element: h('div', { class: 'cards' }, ...cards) };
}

export function bitmapsView(app: App, gone: AbortSignal): View {
  const { bitmaps } = app.overview;
  if (bitmaps.length === 0) return nothing('There are no persistent bitmaps in this image.');
  const cards = bitmaps.map(({ name, granularity, enabled, inconsistent }, index) => {
    const facts = definitions([
      ['One bit stands for', exactBytes(granularity)],
      ['Notes changes', enabled ? 'yes' : 'no'],
      ['Can be used', inconsistent ? 'no: it was not stored when the image was last written' : 'yes'],
    ]);
    const dirty = rangesButton(app, gone, 'What is dirty', (options) => app.client.call('bitmap', { index }, options));
    return h(
      'section',
      { class: 'card', 'data-bitmap': index },
      h('h2', {}, visibleText(name)),
      facts,
      !inconsistent && dirty,
    );
  });
  return { element: h('div', { class: 'cards' }, ...cards) };
}

function nothing(text: string): View {
  return { element: card('Nothing here', h('p', {}, text)) };
}

function rangesButton(
  app: App,
  gone: AbortSignal,
  label: string,
  work: (options: Required<CallOptions>) => Promise<Ranges>,
): HTMLElement {
  const result = h('div', { 'aria-live': 'polite' });
  const button = h('button', { type: 'button' }, label);
  button.addEventListener('click', () => {
    result.replaceChildren();
    void runTask(result, label, gone, async (options) => rangesElement(app, label, await work(options)));
  });
  return h('div', {}, button, result);
}

function rangesElement(app: App, label: string, { pairs, count, bytes }: Ranges): HTMLElement {
  const share = percentText(bytes, app.overview.size);
  const text = `${exactBytes(bytes)} in ${countText(count, 'range')}, ${share} of the disk.`;
  const listed = pairs.length / 2;
  const list = virtualList({
    label: `${label}: ranges`,
    columns: ['Offset', 'Length'],
    rowHeight: 32,
    count: listed,
    rows: async (first, wanted) =>
      Array.from({ length: Math.min(wanted, listed - first) }, (_, at) => {
        const offset = pairs[(first + at) * 2] as number;
        const href = app.link({ view: 'hex', space: 'guest', state: undefined, offset });
        return [h('a', { href }, hexText(offset)), bytesText(pairs[(first + at) * 2 + 1] as number)];
      }),
  });
  const cut = count > listed && h('p', { class: 'hint' }, `The first ${listed.toLocaleString('en')} are listed.`);
  return h('div', { 'data-ranges': count, 'data-bytes': bytes }, h('p', {}, text), count > 0 && list, cut);
}
