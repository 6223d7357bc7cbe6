/** The bytes of a file of any length; pages that nobody wrote cost nothing. */

const PAGE_LENGTH = 16384;

/** What lies where nothing was written: a page of it. */
export type Blank = Uint8Array;

/** Nothing but zeros: a regular file. */
export const ZEROS: Blank = new Uint8Array(PAGE_LENGTH);

/** What somebody else left behind: a device that was used before. No byte is zero. */
export const GARBAGE: Blank = makeGarbage();

export class SparseBytes {
  private readonly pages = new Map<number, Uint8Array>();
  /** Pages that no clone shares. */
  private owned = new Set<number>();

  constructor(private readonly blank: Blank) {}

  /** Fills `target` with the bytes from `offset` on. */
  read(offset: number, target: Uint8Array): void {
    let done = 0;
    while (done < target.length) {
      const page = Math.floor((offset + done) / PAGE_LENGTH);
      const inPage = offset + done - page * PAGE_LENGTH;
      const count = Math.min(PAGE_LENGTH - inPage, target.length - done);
      const source = this.pages.get(page) ?? this.blank;
      target.set(source.subarray(inPage, inPage + count), done);
      done += count;
    }
  }

  write(offset: number, source: Uint8Array): void {
    let done = 0;
    while (done < source.length) {
      const page = Math.floor((offset + done) / PAGE_LENGTH);
      const inPage = offset + done - page * PAGE_LENGTH;
      const count = Math.min(PAGE_LENGTH - inPage, source.length - done);
      this.page(page).set(source.subarray(done, done + count), inPage);
      done += count;
    }
  }

  /** Fills `length` bytes with zeros; whole pages of a file that is zeros anyway are forgotten. */
  zero(offset: number, length: number): void {
    let done = 0;
    while (done < length) {
      const page = Math.floor((offset + done) / PAGE_LENGTH);
      const inPage = offset + done - page * PAGE_LENGTH;
      const count = Math.min(PAGE_LENGTH - inPage, length - done);
      if (this.blank === ZEROS && (count === PAGE_LENGTH || !this.pages.has(page))) this.pages.delete(page);
      else this.page(page).fill(0, inPage, inPage + count);
      done += count;
    }
  }

  /** Forgets what lies from `length` on and before `end`, as a file does that was cut off. */
  truncate(length: number, end = Number.POSITIVE_INFINITY): void {
    for (const page of [...this.pages.keys()]) {
      const start = page * PAGE_LENGTH;
      if (start >= end) continue;
      if (start >= length) this.pages.delete(page);
      else if (start + PAGE_LENGTH > length) this.page(page).fill(0, length - start);
    }
  }

  /** An offset, `start` at least, from which on nothing was ever written. */
  endFrom(start: number): number {
    let end = start;
    for (const page of this.pages.keys()) end = Math.max(end, (page + 1) * PAGE_LENGTH);
    return end;
  }

  /** The same bytes; pages are copied when one of the two is written. */
  clone(): SparseBytes {
    const copy = new SparseBytes(this.blank);
    for (const [page, bytes] of this.pages) copy.pages.set(page, bytes);
    this.owned = new Set();
    return copy;
  }

  /** A page to be written to. */
  private page(index: number): Uint8Array {
    const bytes = this.pages.get(index);
    if (bytes !== undefined && this.owned.has(index)) return bytes;
    const copy = (bytes ?? this.blank).slice();
    this.pages.set(index, copy);
    this.owned.add(index);
    return copy;
  }
}

function makeGarbage(): Blank {
  const page = new Uint8Array(PAGE_LENGTH);
  for (let index = 0; index < page.length; index++) page[index] = ((index * 2654435761) >>> 13) | 0x81;
  return page;
}
