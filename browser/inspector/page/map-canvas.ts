/** The picture of a map: a grid of cells on a canvas, with one cell marked. Knows nothing of images. */

import type { MapPicture } from '../protocol.js';
import { h } from './dom.js';

const MOST_ROWS = 34;
const SMALLEST_CELL = 9;
const LARGEST_CELL = 20;

export interface CanvasEvents {
  /** A cell was chosen: by a click, or by Enter. */
  choose(cell: number): void;
  /** A cell is marked. */
  mark(cell: number): void;
  /** A stretch of cells was dragged over. */
  select(first: number, last: number): void;
  /** Closer, or further away, around a cell. */
  zoom(cell: number, closer: boolean): void;
  /** Beyond the first or the last cell. */
  beyond(direction: -1 | 1): void;
}

export class MapCanvas {
  readonly element: HTMLCanvasElement;
  private picture: MapPicture | undefined;
  private columns = 1;
  private rows = 1;
  private cellSize = SMALLEST_CELL;
  private marked = 0;
  private dragFrom: number | undefined;
  private dragTo: number | undefined;

  constructor(
    /** A CSS custom property for each kind; what comes first is the background. */
    private readonly colours: readonly string[],
    private readonly events: CanvasEvents,
  ) {
    const element = h('canvas', { tabindex: 0, role: 'application', 'aria-roledescription': 'allocation map' });
    this.element = element;
    element.addEventListener('keydown', (event) => this.key(event));
    element.addEventListener('pointermove', (event) => this.move(event));
    element.addEventListener('pointerdown', (event) => this.press(event));
    element.addEventListener('pointerup', (event) => this.release(event));
    element.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    element.addEventListener('focus', () => this.paint());
    element.addEventListener('blur', () => this.paint());
  }

  /** How many cells a picture may have in a box of this width. */
  capacityFor(width: number): number {
    return Math.max(1, Math.floor(width / (SMALLEST_CELL + 1))) * (width < 500 ? MOST_ROWS * 1.4 : MOST_ROWS);
  }

  /** Shows a picture in a box of this width, in CSS pixels. */
  show(picture: MapPicture, width: number): void {
    this.picture = picture;
    const fitting = Math.sqrt((width * 320) / Math.max(1, picture.count));
    this.cellSize = Math.max(SMALLEST_CELL + 1, Math.min(LARGEST_CELL, Math.floor(fitting)));
    this.columns = Math.max(1, Math.floor(width / this.cellSize));
    this.rows = Math.max(1, Math.ceil(picture.count / this.columns));
    this.marked = Math.min(this.marked, Math.max(0, picture.count - 1));
    const scale = globalThis.devicePixelRatio || 1;
    const [wide, high] = [this.columns * this.cellSize, this.rows * this.cellSize];
    this.element.dataset.cellSize = String(this.cellSize);
    this.element.width = Math.ceil(wide * scale);
    this.element.height = Math.ceil(high * scale);
    this.element.style.width = `${wide}px`;
    this.element.style.height = `${high}px`;
    this.paint();
  }

  /** Marks a cell. */
  mark(cell: number): void {
    this.marked = Math.max(0, Math.min(cell, (this.picture?.count ?? 1) - 1));
    this.paint();
  }

  /** Also when the colours have changed. */
  paint(): void {
    const { picture } = this;
    const context = this.element.getContext('2d');
    if (picture === undefined || context === null) return;
    const style = getComputedStyle(this.element);
    const palette = this.colours.map((name) => rgb(style.getPropertyValue(name)));
    const scale = globalThis.devicePixelRatio || 1;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.columns * this.cellSize, this.rows * this.cellSize);
    const side = this.cellSize - 1;
    for (let cell = 0; cell < picture.count; cell++) {
      const { x, y } = this.placeOf(cell);
      context.fillStyle = this.colourOf(picture, cell, palette);
      context.fillRect(x, y, side, side);
    }
    this.paintMarks(context, style.getPropertyValue('--ink'), style.getPropertyValue('--accent'));
  }

  private paintMarks(context: CanvasRenderingContext2D, ink: string, accent: string): void {
    const [first, last] = this.dragged();
    context.lineWidth = 2;
    if (first !== last) {
      context.strokeStyle = accent;
      for (let cell = first; cell <= last; cell++) {
        const { x, y } = this.placeOf(cell);
        context.strokeRect(x, y, this.cellSize - 1, this.cellSize - 1);
      }
    }
    const { x, y } = this.placeOf(this.marked);
    context.strokeStyle = ink;
    context.strokeRect(x + 0.5, y + 0.5, this.cellSize - 2, this.cellSize - 2);
  }

  /** The mean of what is in it; a little of something rare still shows. */
  private colourOf(picture: MapPicture, cell: number, palette: readonly Colour[]): string {
    const kinds = palette.length;
    const start = cell * kinds;
    const length = Math.min(picture.cellLength, picture.to - picture.from - cell * picture.cellLength);
    let known = 0;
    const shares = palette.map((_, kind) => {
      const weight = picture.weights[start + kind] as number;
      known += weight;
      return weight / length;
    });
    if (known === 0) return 'transparent';
    const boosted = shares.map((share, kind) => (kind === 0 || share === 0 ? share : Math.max(share, 0.3)));
    const sum = boosted.reduce((total, share) => total + share, 0);
    const channel = (index: 0 | 1 | 2): number =>
      Math.round(
        Math.sqrt(
          palette.reduce((total, colour, kind) => total + (colour[index] ** 2 * (boosted[kind] as number)) / sum, 0),
        ),
      );
    return `rgb(${channel(0)} ${channel(1)} ${channel(2)})`;
  }

  private placeOf(cell: number): { x: number; y: number } {
    return { x: (cell % this.columns) * this.cellSize, y: Math.floor(cell / this.columns) * this.cellSize };
  }

  private cellAt(event: MouseEvent): number | undefined {
    const box = this.element.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / this.cellSize);
    const row = Math.floor((event.clientY - box.top) / this.cellSize);
    const cell = row * this.columns + column;
    const inside = column >= 0 && column < this.columns && row >= 0 && cell < (this.picture?.count ?? 0);
    return inside ? cell : undefined;
  }

  private dragged(): [number, number] {
    if (this.dragFrom === undefined || this.dragTo === undefined) return [0, 0];
    return [Math.min(this.dragFrom, this.dragTo), Math.max(this.dragFrom, this.dragTo)];
  }

  private set(cell: number): void {
    if (cell === this.marked) return;
    this.mark(cell);
    this.events.mark(this.marked);
  }

  private move(event: PointerEvent): void {
    const cell = this.cellAt(event);
    if (cell === undefined) return;
    if (this.dragFrom !== undefined) this.dragTo = cell;
    this.set(cell);
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0) return;
    this.dragFrom = this.cellAt(event);
    this.dragTo = this.dragFrom;
    if (event.pointerType === 'mouse') this.element.setPointerCapture(event.pointerId);
  }

  private release(event: PointerEvent): void {
    const cell = this.cellAt(event);
    const [first, last] = this.dragged();
    const began = this.dragFrom;
    this.dragFrom = undefined;
    this.dragTo = undefined;
    this.paint();
    if (began === undefined) return;
    if (first !== last) this.events.select(first, last);
    else if (cell !== undefined) this.events.choose(cell);
  }

  /** As everywhere: with Ctrl (and so with two fingers) it zooms, without it the page scrolls. */
  private wheel(event: WheelEvent): void {
    if (!event.ctrlKey) return;
    event.preventDefault();
    // Behind the last cell there may be room in its row.
    this.events.zoom(this.cellAt(event) ?? this.marked, event.deltaY < 0);
  }

  private key(event: KeyboardEvent): void {
    const steps: Readonly<Record<string, number>> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -this.columns * 8,
      PageDown: this.columns * 8,
      Home: -this.marked,
      End: (this.picture?.count ?? 1) - 1 - this.marked,
    };
    const step = steps[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (step !== undefined) this.step(step);
    else if (event.key === 'Enter') this.events.choose(this.marked);
    else if (event.key === '+' || event.key === '=') this.events.zoom(this.marked, true);
    else if (event.key === '-') this.events.zoom(this.marked, false);
    else return;
    event.preventDefault();
  }

  private step(step: number): void {
    const wanted = this.marked + step;
    const count = this.picture?.count ?? 1;
    if (wanted < 0 && this.marked === 0) this.events.beyond(-1);
    else if (wanted >= count && this.marked === count - 1) this.events.beyond(1);
    else this.set(Math.max(0, Math.min(wanted, count - 1)));
  }
}

type Colour = readonly [number, number, number];

/** Of `#rrggbb`, which is how the style sheet has them. */
function rgb(text: string): Colour {
  const value = Number.parseInt(text.trim().slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
