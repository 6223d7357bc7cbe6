/** Partitions, and the files in them: folders, a preview, single files to save. Nothing is mounted. */

import type { FileRow, PartitionRow } from '../../protocol.js';
import type { App, View } from '../app.js';
import { card, h } from '../dom.js';
import type { Place } from '../location.js';
import { problemBox, runTask } from '../task.js';
import { bytesText, countText, dateText, hexText, visibleText } from '../text.js';
import { virtualList } from '../virtual-list.js';
import { previewElement } from './preview.js';

export function filesView(app: App, gone: AbortSignal): View {
  return new FilesView(app, gone);
}

class FilesView implements View {
  readonly element: HTMLElement;
  private readonly folder = h('div', { class: 'folder', 'aria-live': 'polite' });
  private partitions: readonly PartitionRow[] = [];
  private listing = new AbortController();

  constructor(
    private readonly app: App,
    private readonly gone: AbortSignal,
  ) {
    const table = h('div', { class: 'partitions' });
    this.element = h('div', { class: 'cards' }, card('Partitions', table), this.folder);
    void runTask(table, 'Looking for partitions', gone, async ({ signal }) => {
      const { table: kind, partitions } = await app.client.call('partitions', { state: app.place.state }, { signal });
      this.partitions = partitions;
      this.show(app.place);
      const title = kind === undefined ? 'No partition table: the disk as a whole.' : `${kind.toUpperCase()}`;
      const items = partitions.map((row) => this.partitionItem(row));
      return h('div', {}, h('p', { class: 'hint' }, title), h('ul', { class: 'partition-list' }, ...items));
    });
  }

  update(place: Place): void {
    this.show(place);
  }

  private partitionItem(row: PartitionRow): HTMLElement {
    const { number, offset, length, type, name, fileSystem, label, remarks, problem } = row;
    const title = fileSystem ?? 'no files';
    const called = [label, name].filter((text) => text !== '').map((text) => `“${visibleText(text)}”`);
    const text = `${number === 0 ? '' : `${number}: `}${title} ${called.join(', ')}`.trim();
    const href = this.app.link({ partition: number, path: '/' });
    const at = h('a', { href: this.app.link({ view: 'hex', space: 'guest', offset }) }, hexText(offset));
    return h(
      'li',
      { 'data-partition': number },
      fileSystem === undefined ? h('strong', {}, text) : h('a', { class: 'strong', href }, text),
      h('span', { class: 'hint' }, ` ${bytesText(length)} at `, at, `, type ${visibleText(type)}`),
      ...[...remarks, ...(problem === undefined ? [] : [problem.message])].map((line) =>
        h('p', { class: 'hint' }, visibleText(line)),
      ),
    );
  }

  /** The folder or the file that the address names; without one, the first partition with files. */
  private show({ partition, path = '/', state }: Place): void {
    this.listing.abort();
    this.listing = new AbortController();
    const signal = AbortSignal.any([this.gone, this.listing.signal]);
    const chosen = this.partitions.find((row) => (partition === undefined ? row.fileSystem : row.number === partition));
    this.folder.replaceChildren();
    if (chosen?.fileSystem === undefined) {
      if (chosen?.problem !== undefined) this.folder.replaceChildren(problemBox(chosen.problem));
      return;
    }
    const where = { state, partition: chosen.number, path };
    void runTask(this.folder, `Reading ${visibleText(path)}`, signal, async (options) => {
      const { client } = this.app;
      const description = path === '/' ? undefined : await client.call('describe', where, options);
      const crumbs = this.crumbs(chosen, path);
      if (description !== undefined && description.kind !== 'directory') {
        const preview = await previewElement(this.app, { ...where, ...description }, this.gone, options);
        return h('section', { class: 'card files-card' }, crumbs, preview);
      }
      const { rows, count } = await client.call('list', where, options);
      return h(
        'section',
        { class: 'card files-card', 'data-folder': path },
        crumbs,
        this.list(chosen, path, rows, count),
      );
    });
  }

  private crumbs({ number, fileSystem, label }: PartitionRow, path: string): HTMLElement {
    const parts = path.split('/').filter((part) => part !== '');
    const items = parts.map((part, index) => {
      const up = `/${parts.slice(0, index + 1).join('/')}`;
      const last = index === parts.length - 1;
      const link = h(
        'a',
        { href: this.app.link({ partition: number, path: up }), 'aria-current': last && 'page' },
        visibleText(part),
      );
      return h('li', {}, link);
    });
    const root = h(
      'a',
      { href: this.app.link({ partition: number, path: '/' }) },
      visibleText(label) || `${fileSystem}`,
    );
    return h('nav', { class: 'crumbs', 'aria-label': 'Folders' }, h('ol', {}, h('li', {}, root), ...items));
  }

  private list({ number }: PartitionRow, path: string, rows: readonly FileRow[], count: number): HTMLElement {
    if (rows.length === 0) return h('p', { class: 'hint' }, 'An empty folder.');
    const base = path.endsWith('/') ? path : `${path}/`;
    const cells = ({ name, kind, size, modified }: FileRow): (Node | string)[] => {
      const href = this.app.link({ partition: number, path: `${base}${name}` });
      const shown = `${visibleText(name)}${kind === 'directory' ? '/' : ''}`;
      const link = h('a', { href, class: kind }, shown);
      const date = modified === undefined ? '' : dateText(new Date(modified));
      return [link, kind === 'file' ? bytesText(size) : kind, date];
    };
    const list = virtualList({
      label: `Files in ${visibleText(path)}`,
      columns: ['Name', 'Size', 'Changed'],
      rowHeight: 32,
      count: rows.length,
      rows: async (first, wanted) => rows.slice(first, first + wanted).map(cells),
    });
    const cut = count > rows.length ? `, of which the first ${rows.length.toLocaleString('en')} are listed` : '';
    return h('div', {}, h('p', { class: 'hint' }, `${countText(count, 'item')}${cut}`), list);
  }
}
