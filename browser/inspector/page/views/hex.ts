/** Bytes of the disk or of the file, with what they are. */

import type { Place as BytesPlace, NamedBytes, Space } from '../../protocol.js';
import type { App, View } from '../app.js';
import { definitions, h } from '../dom.js';
import type { Place } from '../location.js';
import { problemBox, problemFrom } from '../task.js';
import { bytesText, exactBytes, hexText, parseOffset } from '../text.js';

const ROWS = 24;
/** Positions of the slider. */
const SLIDER_STEPS = 10_000;
/** Names beside the bytes. */
const MOST_NAMES = 48;

export function hexView(app: App, gone: AbortSignal): View {
  return new HexView(app, gone);
}

class HexView implements View {
  readonly element: HTMLElement;
  private readonly dump = h('div', {
    class: 'dump',
    tabindex: 0,
    role: 'application',
    'aria-roledescription': 'hex dump',
  });
  private readonly details = h('div', { class: 'details', 'aria-live': 'polite' });
  private readonly slider = h('input', {
    type: 'range',
    min: 0,
    max: SLIDER_STEPS,
    step: 'any',
    'aria-label': 'Position',
  });
  private readonly entry = h('input', {
    type: 'text',
    id: 'offset',
    spellcheck: 'false',
    autocomplete: 'off',
    size: 14,
  });
  private readonly complaint = h('span', { class: 'complaint', role: 'alert' });
  private first = 0;
  private cursor = 0;
  private bytes = new Uint8Array(0);
  private names: readonly NamedBytes[] = [];
  private ticket = 0;
  private width = 16;

  constructor(
    private readonly app: App,
    private readonly gone: AbortSignal,
  ) {
    const form = h(
      'form',
      { class: 'jump' },
      h('label', { for: 'offset' }, 'Offset '),
      this.entry,
      h('button', { type: 'submit' }, 'Go'),
      this.complaint,
    );
    form.addEventListener('submit', (event) => this.jump(event));
    this.slider.addEventListener('input', () => this.slide());
    this.dump.addEventListener('keydown', (event) => this.key(event));
    this.dump.addEventListener('click', (event) => this.click(event));
    this.dump.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    const pages = h(
      'div',
      { class: 'buttons', role: 'group', 'aria-label': 'Pages' },
      h('button', { type: 'button', on: { click: () => this.move(-ROWS * this.width) } }, 'Page back'),
      h('button', { type: 'button', on: { click: () => this.move(ROWS * this.width) } }, 'Next page'),
    );
    this.element = h(
      'div',
      { class: 'hex' },
      h('div', { class: 'toolbar' }, this.sides(), form, pages),
      h('div', { class: 'hex-columns' }, h('div', { class: 'dump-box' }, this.dump, this.slider), this.details),
    );
    const narrow = matchMedia('(max-width: 640px)');
    const fit = (): void => {
      this.width = narrow.matches ? 8 : 16;
      this.showAt(this.cursor);
    };
    narrow.addEventListener('change', fit, { signal: gone });
    this.width = narrow.matches ? 8 : 16;
    this.showAt(app.place.offset ?? 0);
  }

  update(place: Place): void {
    const wanted = place.offset ?? 0;
    if (wanted !== this.cursor) this.showAt(wanted);
  }

  private get space(): Space {
    return this.app.place.space;
  }

  private get end(): number {
    const { overview, place } = this.app;
    if (this.space === 'host') return overview.fileLength;
    return place.state === undefined ? overview.size : (overview.snapshots[place.state]?.diskSize ?? overview.size);
  }

  private sides(): HTMLElement {
    const side = (space: Space, text: string): HTMLElement => {
      const href = this.app.link({ view: 'hex', space, offset: undefined });
      return h('a', { href, 'aria-current': space === this.space && 'true' }, text);
    };
    return h(
      'div',
      { class: 'segments', role: 'group', 'aria-label': 'Which side' },
      side('guest', 'Disk'),
      side('host', 'File'),
    );
  }

  /** Shows the page with this offset; when it can be seen already, only the cursor moves. */
  private showAt(offset: number, keep = false): void {
    const last = Math.max(0, this.end - 1);
    this.cursor = Math.max(0, Math.min(Math.floor(offset), last));
    const page = ROWS * this.width;
    const row = Math.floor(this.cursor / this.width) * this.width;
    const lastFirst = Math.max(0, Math.ceil(this.end / this.width) * this.width - page);
    const visible = this.cursor >= this.first && this.cursor < this.first + page && this.bytes.length > 0;
    if (keep && visible) {
      this.render();
      this.tell();
      return;
    }
    const before = keep && this.cursor < this.first ? 0 : keep ? ROWS - 1 : 2;
    this.first = Math.max(0, Math.min(row - before * this.width, lastFirst));
    void this.load();
  }

  private async load(): Promise<void> {
    const ticket = ++this.ticket;
    const { client, place } = this.app;
    const where = { space: this.space, state: place.state, offset: this.first, length: ROWS * this.width };
    this.slider.value = String((this.first / Math.max(1, this.end - ROWS * this.width)) * SLIDER_STEPS);
    this.slider.setAttribute('aria-valuetext', hexText(this.first));
    this.names = [];
    try {
      this.bytes = await client.call('read', where, { signal: this.gone });
      if (ticket !== this.ticket) return;
      this.render();
      this.tell();
    } catch (error) {
      if (ticket !== this.ticket || this.gone.aborted) return;
      this.dump.replaceChildren(problemBox(problemFrom(error)));
      this.details.replaceChildren();
    }
  }

  private render(): void {
    const rows: HTMLElement[] = [];
    const digits = Math.max(8, this.end.toString(16).length);
    for (let at = 0; at < this.bytes.length; at += this.width) rows.push(this.row(at, digits));
    this.dump.replaceChildren(...rows);
    const side = this.space === 'guest' ? 'the disk' : 'the file';
    this.dump.setAttribute('aria-label', `Bytes of ${side} from ${hexText(this.first)}`);
    this.element.dataset.first = String(this.first);
    this.entry.value = hexText(this.cursor);
  }

  private row(at: number, digits: number): HTMLElement {
    const cells: HTMLElement[] = [];
    const letters: HTMLElement[] = [];
    for (let index = at; index < Math.min(at + this.width, this.bytes.length); index++) {
      const byte = this.bytes[index] as number;
      const offset = this.first + index;
      const name = this.names.find((named) => offset >= named.offset && offset < named.offset + named.length);
      const chosen = offset === this.cursor;
      const odd = name !== undefined && this.names.indexOf(name) % 2 === 1;
      const classes = `${byte === 0 ? 'zero' : ''}${name === undefined ? '' : odd ? ' named odd' : ' named'}${chosen ? ' chosen' : ''}`;
      const attributes = { class: classes || undefined, 'data-offset': offset, title: name?.name };
      cells.push(h('b', attributes, byte.toString(16).padStart(2, '0')));
      letters.push(
        h('i', { ...attributes, title: undefined }, byte > 32 && byte < 127 ? String.fromCharCode(byte) : '·'),
      );
    }
    const offset = h('span', { class: 'row-offset' }, (this.first + at).toString(16).padStart(digits, '0'));
    return h(
      'div',
      { class: 'row' },
      offset,
      h('span', { class: 'bytes' }, ...cells),
      h('span', { class: 'letters' }, ...letters),
    );
  }

  /** What is at the cursor, and which names lie on the page. */
  private tell(): void {
    const ticket = this.ticket;
    const { client, place } = this.app;
    const request = { space: this.space, state: place.state, offset: this.cursor, length: 0 };
    const page = { ...request, offset: this.first, length: this.bytes.length };
    const cursor = this.cursor;
    const here = client.call('place', request, { signal: this.gone });
    const around = client.call('place', page, { signal: this.gone });
    Promise.all([here, around]).then(
      ([found, { names }]) => {
        if (ticket !== this.ticket || cursor !== this.cursor) return;
        const isNew = this.names.length !== names.length;
        this.names = names;
        if (isNew) this.render();
        this.details.replaceChildren(...this.detailElements(found));
      },
      (error: unknown) => {
        if (ticket === this.ticket && !this.gone.aborted) this.details.replaceChildren(problemBox(problemFrom(error)));
      },
    );
  }

  private detailElements(found: BytesPlace): HTMLElement[] {
    const { cursor, names } = this;
    const own = names.find(({ offset, length }) => cursor >= offset && cursor < offset + length);
    const other = found.other;
    const facts = definitions([
      ['Offset', `${hexText(cursor)} (${cursor.toLocaleString('en')})`],
      ['Stretch', `${hexText(found.offset)}, ${exactBytes(found.length)}`],
      [other?.space === 'host' ? 'In the file' : 'On the disk', other && this.linkTo(other.space, other.offset)],
      ...this.numbers(),
    ]);
    const title = h('h2', { 'data-place': found.kind }, own?.name ?? found.title);
    const value = own !== undefined && h('p', {}, `${own.value}. `, h('span', { class: 'hint' }, found.title));
    const list = names.slice(0, MOST_NAMES).map(({ offset, name, value: says, target }) => {
      const here = h('a', { href: this.app.link({ offset }) }, name);
      const go = target === undefined ? undefined : this.linkTo(target.space, target.offset, 'follow');
      return h('li', {}, here, h('span', { class: 'hint' }, ` ${says} `), go);
    });
    const more =
      names.length > MOST_NAMES && h('p', { class: 'hint' }, `and ${names.length - MOST_NAMES} more on this page`);
    const section =
      list.length > 0 && h('section', {}, h('h3', {}, 'On this page'), h('ul', { class: 'names' }, ...list), more);
    return [h('div', {}, title, value, facts, section)];
  }

  private linkTo(space: Space, offset: number, text = hexText(offset)): HTMLElement {
    const state = space === 'host' ? undefined : this.app.place.state;
    const name = text === hexText(offset) ? undefined : `${text} to ${hexText(offset)}`;
    return h('a', { href: this.app.link({ view: 'hex', space, state, offset }), 'aria-label': name }, text);
  }

  /** The bytes at the cursor as numbers. */
  private numbers(): [string, string][] {
    const at = this.cursor - this.first;
    const view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
    const rows: [string, string][] = [];
    if (at >= 0 && at < view.byteLength) rows.push(['8 bits', String(view.getUint8(at))]);
    if (at >= 0 && at + 4 <= view.byteLength) rows.push(['32 bits, big-endian', String(view.getUint32(at))]);
    if (at >= 0 && at + 4 <= view.byteLength) rows.push(['32 bits, little-endian', String(view.getUint32(at, true))]);
    if (at >= 0 && at + 8 <= view.byteLength) rows.push(['64 bits, big-endian', String(view.getBigUint64(at))]);
    if (at >= 0 && at + 8 <= view.byteLength)
      rows.push(['64 bits, little-endian', String(view.getBigUint64(at, true))]);
    return rows;
  }

  private choose(offset: number): void {
    this.showAt(offset, true);
    this.app.go({ offset: this.cursor }, { replace: true });
  }

  private move(bytes: number): void {
    const page = ROWS * this.width;
    const lastFirst = Math.max(0, Math.ceil(this.end / this.width) * this.width - page);
    this.first = Math.max(0, Math.min(this.first + bytes, lastFirst));
    this.cursor = Math.max(this.first, Math.min(this.cursor + bytes, this.first + page - 1, this.end - 1));
    this.app.go({ offset: this.cursor }, { replace: true });
    void this.load();
  }

  private key(event: KeyboardEvent): void {
    const { width } = this;
    const steps: Readonly<Record<string, number>> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -width,
      ArrowDown: width,
    };
    if (event.altKey || event.metaKey) return;
    const step = steps[event.key];
    if (step !== undefined) this.choose(this.cursor + step);
    else if (event.key === 'PageUp') this.move(-ROWS * width);
    else if (event.key === 'PageDown') this.move(ROWS * width);
    else if (event.key === 'Home') this.choose(event.ctrlKey ? 0 : Math.floor(this.cursor / width) * width);
    else if (event.key === 'End')
      this.choose(event.ctrlKey ? this.end - 1 : Math.floor(this.cursor / width) * width + width - 1);
    else return;
    event.preventDefault();
  }

  private click(event: MouseEvent): void {
    const offset = (event.target as HTMLElement).dataset.offset;
    if (offset !== undefined) this.choose(Number(offset));
  }

  private wheel(event: WheelEvent): void {
    if (event.ctrlKey || Math.abs(event.deltaY) < 1) return;
    event.preventDefault();
    this.move(Math.sign(event.deltaY) * 3 * this.width);
  }

  private slide(): void {
    const share = Number(this.slider.value) / SLIDER_STEPS;
    const wanted = Math.floor((share * this.end) / this.width) * this.width;
    this.first = Math.max(0, Math.min(wanted, Math.ceil(this.end / this.width) * this.width - ROWS * this.width));
    this.cursor = Math.max(0, Math.min(this.first, this.end - 1));
    this.app.go({ offset: this.cursor }, { replace: true });
    void this.load();
  }

  private jump(event: Event): void {
    event.preventDefault();
    const wanted = parseOffset(this.entry.value);
    const fits = wanted !== undefined && wanted < this.end;
    this.complaint.textContent = fits
      ? ''
      : `A number below ${hexText(this.end)} (${bytesText(this.end)}), such as 0x10000 or 1M`;
    if (fits) this.choose(wanted);
  }
}
