/** A list of which only what can be seen exists: as quick with two million rows as with ten. */

import { h } from './dom.js';

/** Browsers do not lay out taller elements; beyond it, a step of the scroll bar is more than one row. */
const TALLEST = 8_000_000;

export interface VirtualListOptions {
  readonly label: string;
  readonly columns: readonly string[];
  readonly rowHeight: number;
  readonly count: number;
  /** The cells of some rows. */
  readonly rows: (first: number, count: number) => Promise<readonly (readonly (Node | string)[])[]>;
}

/** A table in a box that scrolls. */
export function virtualList({ label, columns, rowHeight, count, rows }: VirtualListOptions): HTMLElement {
  const body = h('tbody');
  const head = h('thead', {}, h('tr', {}, ...columns.map((name) => h('th', { scope: 'col' }, name))));
  const table = h('table', { 'aria-rowcount': count + 1, 'aria-label': label }, head, body);
  const spacer = h('div', { class: 'spacer' });
  const height = Math.min(TALLEST, (count + 1) * rowHeight);
  spacer.style.height = `${height}px`;
  const box = h('div', { class: 'virtual-list', tabindex: 0, role: 'region', 'aria-label': label }, spacer, table);
  box.style.height = `${Math.min(count + 1, 14) * rowHeight + 2}px`;
  let wanted = 0;
  const show = async (): Promise<void> => {
    const ticket = ++wanted;
    const visible = Math.ceil((box.clientHeight || 14 * rowHeight) / rowHeight);
    const scrollable = Math.max(1, height - box.clientHeight);
    const last = Math.max(0, count + 1 - visible);
    const first = Math.min(last, Math.round((box.scrollTop / scrollable) * last));
    const cells = await rows(first, visible + 1);
    if (ticket !== wanted) return;
    table.style.transform = `translateY(${Math.min(box.scrollTop, Math.max(0, height - (visible + 1) * rowHeight))}px)`;
    body.replaceChildren(
      ...cells.map((row, index) =>
        h('tr', { 'aria-rowindex': first + index + 2 }, ...row.map((cell) => h('td', {}, cell))),
      ),
    );
  };
  box.addEventListener('scroll', () => void show(), { passive: true });
  void show();
  requestAnimationFrame(() => void show());
  return box;
}
