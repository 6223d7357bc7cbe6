/** The page around the views of one image: its name, the state that is looked at, the views, what was read. */

import type { Overview } from '../protocol.js';
import type { App, MakeView, View } from './app.js';
import type { Client } from './client.js';
import { h } from './dom.js';
import { formatPlace, type Place, parsePlace, START, VIEW_NAMES, type ViewName } from './location.js';
import { bytesText, countText, visibleText } from './text.js';
import { exportView } from './views/export.js';
import { filesView } from './views/files.js';
import { hexView } from './views/hex.js';
import { bitmapsView, snapshotsView } from './views/lists.js';
import { mapView } from './views/map.js';
import { summaryView } from './views/summary.js';

const VIEWS: Readonly<Record<ViewName, { title: string; make: MakeView }>> = {
  summary: { title: 'Summary', make: summaryView },
  map: { title: 'Map', make: mapView },
  hex: { title: 'Bytes', make: hexView },
  files: { title: 'Files', make: filesView },
  snapshots: { title: 'Snapshots', make: snapshotsView },
  bitmaps: { title: 'Bitmaps', make: bitmapsView },
  export: { title: 'Raw copy', make: exportView },
};

/** Shows an open image until it is closed. */
export class Shell implements App {
  readonly element: HTMLElement;
  place: Place = START;
  private shown: { key: string; view: View; gone: AbortController } | undefined;
  private readonly main = h('main', { id: 'content', tabindex: -1 });
  private readonly nav = h('nav', { class: 'views', 'aria-label': 'Views' });
  private readonly news = h('p', { class: 'sr-only', role: 'status' });
  private readonly states: HTMLSelectElement;
  private readonly listening = new AbortController();

  constructor(
    readonly client: Client,
    readonly overview: Overview,
    actions: { readonly again: () => void; readonly openTop: (top: number) => void },
  ) {
    this.states = this.stateSelect();
    this.element = h(
      'div',
      { class: 'shell' },
      h(
        'section',
        { class: 'top', 'aria-label': 'Image' },
        h('div', { class: 'file' }, h('span', { class: 'file-name' }, visibleText(overview.name)), this.factLine()),
        h(
          'div',
          { class: 'top-controls' },
          this.topSelect(actions.openTop),
          this.states.options.length > 1 && h('label', {}, 'State ', this.states),
          h('button', { type: 'button', on: { click: actions.again } }, 'Open another'),
        ),
      ),
      this.nav,
      this.main,
      this.news,
    );
    globalThis.addEventListener('hashchange', () => this.showHash(), { signal: this.listening.signal });
    this.showHash(false);
  }

  /** Ends everything that is under way. */
  close(): void {
    this.listening.abort();
    this.shown?.gone.abort();
    this.client.close();
  }

  go(change: Partial<Place>, { replace = false }: { replace?: boolean } = {}): void {
    const link = this.link(change);
    if (!replace) {
      location.href = link;
      return;
    }
    history.replaceState(null, '', link);
    this.showHash(false);
  }

  link(change: Partial<Place>): string {
    const place = { ...this.place, ...change };
    if (change.view !== undefined && change.view !== this.place.view) {
      if (!('from' in change)) Object.assign(place, { from: undefined, to: undefined });
      if (!('path' in change)) Object.assign(place, { path: undefined, partition: undefined });
    }
    return `${location.pathname}${location.search}${formatPlace(place)}`;
  }

  announce(text: string): void {
    this.news.textContent = text;
  }

  private factLine(): HTMLElement {
    const { format, facts, size, fileLength } = this.overview;
    const version = facts === undefined ? format : `qcow2 v${facts.version}`;
    const disk = size > 0 ? `${bytesText(size)} disk` : 'disk of unknown size';
    return h('span', { class: 'hint' }, `${version} · ${disk} · ${bytesText(fileLength)} file`);
  }

  /** Which of several files is looked at. */
  private topSelect(openTop: (top: number) => void): HTMLElement | undefined {
    const { files, top } = this.overview;
    if (files.length < 2) return undefined;
    const options = files.map((name, index) =>
      h('option', { value: index, selected: index === top }, visibleText(name)),
    );
    const select = h('select', {}, ...options);
    select.addEventListener('change', () => openTop(Number(select.value)));
    return h('label', {}, 'File ', select);
  }

  private stateSelect(): HTMLSelectElement {
    const { snapshots, readable } = this.overview;
    const names = snapshots.map(({ name }, index) => h('option', { value: index }, `snapshot ${visibleText(name)}`));
    const select = h('select', { class: 'state' }, h('option', { value: '' }, 'as it is'), ...(readable ? names : []));
    select.addEventListener('change', () => {
      const state = select.value === '' ? undefined : Number(select.value);
      this.go({ state, space: 'guest', from: undefined, to: undefined, path: undefined });
    });
    return select;
  }

  private showHash(focus = true): void {
    const wanted = parsePlace(location.hash);
    const state =
      wanted.state !== undefined && wanted.state < this.overview.snapshots.length ? wanted.state : undefined;
    const space = this.overview.facts === undefined ? 'guest' : wanted.space;
    this.place = { ...wanted, state, space };
    const { view: name } = this.place;
    const key = `${name} ${space} ${state}`;
    this.states.value = state === undefined ? '' : String(state);
    if (this.shown?.key === key) {
      this.shown.view.update?.(this.place);
      return;
    }
    const moved = this.shown !== undefined && this.shown.key.split(' ')[0] !== name;
    this.shown?.gone.abort();
    const gone = new AbortController();
    const { title, make } = VIEWS[name];
    const view = make(this, gone.signal);
    this.shown = { key, view, gone };
    this.drawNav();
    const heading = h('h1', { class: 'sr-only' }, title);
    this.main.replaceChildren(heading, view.element);
    document.title = `${title} · ${visibleText(this.overview.name)} · Corral`;
    if (moved && focus) this.main.focus({ preventScroll: true });
    if (moved) globalThis.scrollTo(0, 0);
  }

  private drawNav(): void {
    const { snapshots, bitmaps } = this.overview;
    const counts: Partial<Record<ViewName, number>> = { snapshots: snapshots.length, bitmaps: bitmaps.length };
    const items = VIEW_NAMES.map((name) => {
      const current = name === this.place.view && 'page';
      const count = counts[name];
      const badge =
        count !== undefined &&
        count > 0 &&
        h('span', { class: 'badge', 'aria-label': countText(count, 'item') }, String(count));
      const href = this.link({ view: name, offset: undefined, from: undefined, to: undefined });
      return h('li', {}, h('a', { href, 'aria-current': current }, VIEWS[name].title, badge));
    });
    this.nav.replaceChildren(h('ul', {}, ...items));
    // When it is drawn first, it is not in the page yet.
    requestAnimationFrame(() =>
      this.nav.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' }),
    );
  }
}
