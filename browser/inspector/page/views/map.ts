/** The allocation map: of the disk, or of the file. */

import { GUEST_KINDS, HOST_KINDS, type MapPicture, type Space } from '../../protocol.js';
import type { App, View } from '../app.js';
import { h } from '../dom.js';
import type { Place } from '../location.js';
import { MapCanvas } from '../map-canvas.js';
import { runTask } from '../task.js';
import { bytesText, hexText, percentText } from '../text.js';
import { extentsSection } from './extents.js';

/** Milliseconds that a cell stays marked before the worker is asked about it. */
const REST = 120;

const GUEST_NAMES = ['never written', 'zeros', 'data', 'compressed', 'in a backing file'];
const HOST_NAMES = [
  'free',
  'leaked',
  'header',
  'L1 tables',
  'L2 tables',
  'refcounts',
  'snapshot table',
  'bitmaps',
  'encryption header',
  'data',
  'compressed data',
  'data of snapshots only',
];

export function mapView(app: App, gone: AbortSignal): View {
  return app.place.space === 'host' ? new MapView(app, gone, 'host') : new MapView(app, gone, 'guest');
}

class MapView implements View {
  readonly element: HTMLElement;
  private readonly canvas: MapCanvas;
  private readonly status = h('div', { class: 'map-status' });
  private readonly readout = h('p', { class: 'readout', 'aria-live': 'polite' });
  private readonly legend = h('div', { class: 'legend' });
  private readonly range = h('p', { class: 'map-range' });
  private readonly box = h('div', { class: 'map-box' });
  private readonly kinds: readonly string[];
  private readonly names: readonly string[];
  private picture: MapPicture | undefined;
  private loading = new AbortController();
  private rest: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly app: App,
    private readonly gone: AbortSignal,
    private readonly space: Space,
  ) {
    this.kinds = space === 'guest' ? GUEST_KINDS : HOST_KINDS;
    this.names = space === 'guest' ? GUEST_NAMES : HOST_NAMES;
    const colours = this.kinds.map((kind) => colourOf(space, kind));
    this.canvas = new MapCanvas(colours, {
      choose: (cell) => this.app.go({ view: 'hex', space, offset: this.offsetOf(cell) }),
      mark: (cell) => this.tell(cell),
      select: (first, last) => this.show(this.offsetOf(first), this.offsetOf(last + 1)),
      zoom: (cell, closer) => this.zoom(this.offsetOf(cell), closer ? 0.25 : 4),
      beyond: (direction) => this.pan(direction),
    });
    const help =
      'Arrow keys move, Enter shows the bytes, plus and minus zoom. Drag over cells to zoom into them, Ctrl and the wheel zoom, too.';
    this.canvas.element.setAttribute('aria-description', help);
    this.box.append(this.canvas.element);
    this.element = h(
      'div',
      { class: 'map' },
      h('div', { class: 'toolbar' }, this.sides(), this.buttons()),
      this.range,
      this.box,
      this.status,
      this.readout,
      this.legend,
      h('p', { class: 'hint' }, help),
      space === 'guest' && extentsSection(app, gone),
    );
    const repaint = (): void => this.canvas.paint();
    const theme = matchMedia('(prefers-color-scheme: dark)');
    theme.addEventListener('change', repaint, { signal: gone });
    const sizes = new ResizeObserver(() => this.resize());
    sizes.observe(this.box);
    gone.addEventListener('abort', () => {
      sizes.disconnect();
      this.loading.abort();
      clearTimeout(this.rest);
    });
  }

  update(_place: Place): void {
    this.load();
  }

  private get end(): number {
    const { overview, place } = this.app;
    if (this.space === 'host') return overview.fileLength;
    return place.state === undefined ? overview.size : (overview.snapshots[place.state]?.diskSize ?? overview.size);
  }

  private sides(): HTMLElement {
    const { overview } = this.app;
    const side = (space: Space, text: string): HTMLElement => {
      const href = this.app.link({ view: 'map', space, from: undefined, to: undefined, offset: undefined });
      return h('a', { href, 'aria-current': space === this.space && 'true' }, text);
    };
    const file = overview.facts !== undefined && side('host', 'File');
    return h('div', { class: 'segments', role: 'group', 'aria-label': 'Which side' }, side('guest', 'Disk'), file);
  }

  private buttons(): HTMLElement {
    const button = (text: string, name: string, click: () => void): HTMLElement =>
      h('button', { type: 'button', 'aria-label': name, title: name, on: { click } }, text);
    const middle = (): number => this.offsetOf((this.picture?.count ?? 0) / 2);
    return h(
      'div',
      { class: 'buttons', role: 'group', 'aria-label': 'Zoom' },
      button('◀', 'Back', () => this.pan(-1)),
      button('−', 'Zoom out', () => this.zoom(middle(), 4)),
      button('Whole', 'Whole map', () => this.show(0, this.end)),
      button('+', 'Zoom in', () => this.zoom(middle(), 0.25)),
      button('▶', 'Onwards', () => this.pan(1)),
    );
  }

  private resize(): void {
    const width = this.box.clientWidth;
    if (width === 0) return;
    const { picture } = this;
    if (picture === undefined) this.load();
    else if (Math.abs(width - this.drawnWidth) > 8) this.load();
  }

  private drawnWidth = 0;

  private load(): void {
    this.loading.abort();
    this.loading = new AbortController();
    const signal = AbortSignal.any([this.gone, this.loading.signal]);
    const { place, client } = this.app;
    const to = Math.min(place.to ?? this.end, this.end);
    const from = Math.min(place.from ?? 0, Math.max(0, to - 1));
    this.drawnWidth = this.box.clientWidth;
    const cells = this.canvas.capacityFor(this.drawnWidth);
    const request = { space: this.space, state: place.state, from, to, cells: Math.floor(cells) };
    if (this.end === 0) {
      this.range.textContent = 'There is nothing to show.';
      return;
    }
    void runTask(this.status, 'Reading the tables', signal, async ({ signal: wanted, onProgress }) => {
      const picture = await client.call('map', request, {
        signal: wanted,
        onProgress: (progress) => {
          onProgress(progress);
          if (progress.partial !== undefined && !wanted.aborted) this.draw(progress.partial as MapPicture);
        },
      });
      this.draw(picture);
      this.element.dataset.picture = 'whole';
      return undefined;
    });
  }

  private draw(picture: MapPicture): void {
    this.picture = picture;
    this.canvas.show(picture, this.drawnWidth);
    const { offset } = this.app.place;
    if (this.readout.textContent === '')
      this.readout.textContent = 'Point at a cell, or move to it with the arrow keys.';
    if (offset !== undefined && offset >= picture.from && offset < picture.to) {
      this.canvas.mark(Math.floor((offset - picture.from) / picture.cellLength));
    }
    const { from, to, cellLength, totals } = picture;
    const all = from === 0 && to === this.end;
    const part = all ? 'All of it' : `${hexText(from)} to ${hexText(to)}`;
    this.range.textContent = `${part}: ${bytesText(to - from)}, a cell is ${bytesText(cellLength)}`;
    const side = this.space === 'guest' ? 'the disk' : 'the file';
    const shares = this.names.flatMap((name, kind) => {
      const bytes = totals[kind] as number;
      return bytes > 0 ? [`${name} ${percentText(bytes, to - from)}`] : [];
    });
    this.canvas.element.setAttribute('aria-label', `Map of ${side}: ${shares.join(', ')}`);
    this.element.dataset.totals = JSON.stringify(Object.fromEntries(this.kinds.map((kind, at) => [kind, totals[at]])));
    this.legend.replaceChildren(...this.kinds.map((kind, at) => this.legendItem(kind, at, to - from)));
  }

  private legendItem(kind: string, at: number, whole: number): HTMLElement {
    const bytes = this.picture?.totals[at] ?? 0;
    const swatch = h('span', { class: 'swatch', 'aria-hidden': 'true' });
    swatch.style.background = `var(${colourOf(this.space, kind)})`;
    const amount = h(
      'span',
      { class: 'amount' },
      bytes > 0 ? `${bytesText(bytes)}, ${percentText(bytes, whole)}` : 'none',
    );
    return h('div', { class: bytes > 0 ? '' : 'absent' }, swatch, h('span', {}, this.names[at]), amount);
  }

  private offsetOf(cell: number): number {
    const { picture } = this;
    if (picture === undefined) return 0;
    return Math.min(picture.to, picture.from + Math.floor(cell) * picture.cellLength);
  }

  private tell(cell: number): void {
    const { picture } = this;
    if (picture === undefined) return;
    const start = this.offsetOf(cell);
    const end = this.offsetOf(cell + 1);
    const kinds = this.kinds.length;
    const parts = this.names.flatMap((name, kind) => {
      const bytes = picture.weights[cell * kinds + kind] as number;
      if (bytes === 0) return [];
      return [bytes === end - start ? name : `${name} ${percentText(bytes, end - start)}`];
    });
    this.readout.textContent = `${hexText(start)} to ${hexText(end)}: ${parts.join(', ') || 'not yet known'}`;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => void this.tellMore(start), REST);
  }

  private async tellMore(offset: number): Promise<void> {
    const { place, client } = this.app;
    const request = { space: this.space, state: place.state, offset, length: 0 };
    const text = this.readout.textContent;
    try {
      const { title, offset: start, length } = await client.call('place', request, { signal: this.gone });
      if (this.readout.textContent !== text) return;
      this.readout.textContent = `${text}. ${title}, ${bytesText(length)} from ${hexText(start)}`;
    } catch {
      // The short form says what can be said; what is wrong is told where it matters.
    }
  }

  private zoom(around: number, factor: number): void {
    const { picture } = this;
    if (picture === undefined) return;
    const length = Math.min(this.end, Math.max(512, (picture.to - picture.from) * factor));
    const share = (around - picture.from) / Math.max(1, picture.to - picture.from);
    const from = Math.max(0, Math.min(this.end - length, around - share * length));
    this.show(from, from + length, around);
  }

  private pan(direction: -1 | 1): void {
    const { picture } = this;
    if (picture === undefined) return;
    const length = picture.to - picture.from;
    const from = Math.max(0, Math.min(this.end - length, picture.from + direction * length * 0.75));
    this.show(from, from + length);
  }

  /** In whole sectors. */
  private show(from: number, to: number, offset?: number): void {
    const start = Math.floor(from / 512) * 512;
    const end = Math.min(this.end, Math.ceil(to / 512) * 512);
    const whole = start <= 0 && end >= this.end;
    const range = whole ? { from: undefined, to: undefined } : { from: start, to: end };
    this.app.go({ ...range, offset }, { replace: true });
  }
}

/** The custom property with the colour of a kind. */
function colourOf(space: Space, kind: string): string {
  return `--${space}-${kind.replace(' ', '-')}`;
}
