/**
 * Reads and writes of a file that is open with O_DIRECT: whole blocks, to and from memory that begins at a block. Such
 * memory is that of a WebAssembly.Memory, which begins at a page: everything goes through pieces of one.
 *
 * Of a block that a write covers only in part the rest is read first and written again. Writes that touch the same block
 * wait for each other, so that none undoes another one. A file whose length is not a multiple of a block becomes longer
 * by zeros when its last block is written.
 */

import { read, write } from 'node:fs';

/** Bytes of a block: what every disk of today takes. */
const BLOCK = 4096;
/** Bytes of a piece, and how many there are. */
const PIECE = 1 << 20;
const PIECES = 4;
const PAGE = 65536;

/** Blocks [start, end) in bytes that are being written. */
interface BusyRange {
  readonly start: number;
  readonly end: number;
}

export class DirectIo {
  private readonly memory = new WebAssembly.Memory({ initial: (PIECE * PIECES) / PAGE });
  private readonly free: number[] = Array.from({ length: PIECES }, (_, index) => index * PIECE);
  private readonly pieceWaiters: ((address: number) => void)[] = [];
  private readonly busy = new Set<BusyRange>();
  private readonly rangeWaiters: (() => void)[] = [];

  constructor(private readonly descriptor: number) {}

  /** Fills the target, with zeros beyond the end of the file. Rejects with the system's error. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const position = offset + done;
      const start = blockStart(position);
      const inside = Math.min(target.length - done, PIECE - (position - start));
      await this.withPiece(async (piece) => {
        const blocks = piece.subarray(0, blockEnd(position + inside) - start);
        blocks.fill(0, await this.readBlocks(start, blocks));
        target.set(blocks.subarray(position - start, position - start + inside), done);
      });
      done += inside;
    }
  }

  /** Writes the pieces one behind the other. Rejects with the system's error. */
  async write(offset: number, sources: readonly Uint8Array[]): Promise<void> {
    const length = sources.reduce((sum, source) => sum + source.length, 0);
    if (length === 0) return;
    const range = { start: blockStart(offset), end: blockEnd(offset + length) };
    while (this.isBusy(range)) await new Promise<void>((resolve) => this.rangeWaiters.push(resolve));
    this.busy.add(range);
    try {
      const cursor = new Cursor(sources);
      for (let start = range.start; start < range.end; start += PIECE) {
        const end = Math.min(range.end, start + PIECE);
        await this.withPiece((piece) =>
          this.writeBlocks(start, piece.subarray(0, end - start), { from: offset, to: offset + length }, cursor),
        );
      }
    } finally {
      this.busy.delete(range);
      for (const resolve of this.rangeWaiters.splice(0)) resolve();
    }
  }

  /** Whether the file has a byte at this place. */
  async reaches(offset: number): Promise<boolean> {
    const start = blockStart(offset);
    return this.withPiece(async (piece) => (await this.readBlocks(start, piece.subarray(0, BLOCK))) > offset - start);
  }

  /** Of the blocks at `start`, the bytes that lie in the range are the source's; the others stay. */
  private async writeBlocks(
    start: number,
    blocks: Uint8Array,
    { from, to }: { from: number; to: number },
    cursor: Cursor,
  ): Promise<void> {
    const end = start + blocks.length;
    const first = Math.max(from, start);
    const last = Math.min(to, end);
    if (first > start) await this.fillBlock(start, blocks.subarray(0, BLOCK));
    if (last < end && (first === start || blocks.length > BLOCK)) {
      await this.fillBlock(end - BLOCK, blocks.subarray(blocks.length - BLOCK));
    }
    cursor.copyTo(blocks.subarray(first - start, last - start));
    for (let done = 0; done < blocks.length; ) {
      const count = await writeAt(this.descriptor, blocks.subarray(done), start + done);
      // What does not end at a block is written again.
      done = blockStart(done + count);
      if (count < BLOCK) throw Object.assign(new Error('A direct write made no progress'), { code: 'EIO' });
    }
  }

  private async fillBlock(start: number, block: Uint8Array): Promise<void> {
    block.fill(0, await this.readBlocks(start, block));
  }

  /** Bytes that were read: fewer at the end of the file. */
  private async readBlocks(start: number, blocks: Uint8Array): Promise<number> {
    let done = 0;
    while (done < blocks.length) {
      const count = await readAt(this.descriptor, blocks.subarray(done), start + done);
      done += count;
      // Only the end of the file ends within a block.
      if (count === 0 || done % BLOCK !== 0) break;
    }
    return done;
  }

  private isBusy({ start, end }: BusyRange): boolean {
    for (const other of this.busy) if (start < other.end && other.start < end) return true;
    return false;
  }

  private async withPiece<T>(work: (piece: Uint8Array) => Promise<T>): Promise<T> {
    const address = this.free.pop() ?? (await new Promise<number>((resolve) => this.pieceWaiters.push(resolve)));
    try {
      return await work(new Uint8Array(this.memory.buffer, address, PIECE));
    } finally {
      const next = this.pieceWaiters.shift();
      if (next === undefined) this.free.push(address);
      else next(address);
    }
  }
}

/** Where a write stands in its sources. */
class Cursor {
  private index = 0;
  private position = 0;

  constructor(private readonly sources: readonly Uint8Array[]) {}

  /** Fills the target with the next bytes. */
  copyTo(target: Uint8Array): void {
    for (let done = 0; done < target.length; ) {
      const source = this.sources[this.index] as Uint8Array;
      const count = Math.min(target.length - done, source.length - this.position);
      target.set(source.subarray(this.position, this.position + count), done);
      done += count;
      this.position += count;
      if (this.position < source.length) continue;
      this.index++;
      this.position = 0;
    }
  }
}

function blockStart(offset: number): number {
  return Math.floor(offset / BLOCK) * BLOCK;
}

function blockEnd(offset: number): number {
  return Math.ceil(offset / BLOCK) * BLOCK;
}

function readAt(descriptor: number, target: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(descriptor, target, 0, target.length, position, (error, count) => (error ? reject(error) : resolve(count)));
  });
}

function writeAt(descriptor: number, source: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(descriptor, source, 0, source.length, position, (error, count) => (error ? reject(error) : resolve(count)));
  });
}
