/**
 * A stream as a file, for looking at headers: its start, its end, and what the header of a qcow2 image says is elsewhere are
 * held; everything else goes by. Needs as much memory for a terabyte as for 16 MiB.
 */

import { CorralError } from '../errors.js';
import { hasBytes, viewOf } from '../filesystem/reader.js';
import { ReadOnlyFile } from '../read-only-file.js';

const HEAD_LENGTH = 4 * 2 ** 20;
const TAIL_LENGTH = 65536;
/** Bytes of each structure elsewhere: more than a snapshot table or a LUKS header that is worth listing. */
const STRUCTURE_LENGTH = 2 * 2 ** 20;

const QCOW_MAGIC = [0x51, 0x46, 0x49, 0xfb];
const BITMAPS = 0x23852875;
const ENCRYPTION_HEADER = 0x0537be77;
/** Extensions that are looked through. */
const MOST_EXTENSIONS = 100;

/** A stretch of the stream, of which so much has come in. */
interface Kept {
  readonly offset: number;
  readonly bytes: Uint8Array;
  filled: number;
}

export class StreamedFile extends ReadOnlyFile {
  private length = 0;
  private readonly kept: Kept[] = [keptAt(0, HEAD_LENGTH)];
  private tail = new Uint8Array(0);
  private knowsStructures = false;

  private constructor() {
    super('A stream cannot be written');
  }

  /** Takes the stream to its end. Rejects with what is wrong with it. */
  static async receive(stream: AsyncIterable<Uint8Array>): Promise<StreamedFile> {
    const file = new StreamedFile();
    for await (const chunk of stream) file.take(chunk);
    file.findStructures();
    return file;
  }

  async size(): Promise<number> {
    return this.length;
  }

  /** Rejects with ERR_TOO_LARGE for what was not held. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.length - offset));
    const tail = { offset: this.length - this.tail.length, bytes: this.tail, filled: this.tail.length };
    const from = [...this.kept, tail].find(
      (kept) => offset >= kept.offset && offset + inside <= kept.offset + kept.filled,
    );
    if (from === undefined && inside > 0) {
      throw new CorralError('ERR_TOO_LARGE', { reason: 'That part of the stream was not held' });
    }
    target.fill(0);
    if (from !== undefined) target.set(from.bytes.subarray(offset - from.offset, offset - from.offset + inside));
  }

  private take(chunk: Uint8Array): void {
    const start = this.length;
    this.length += chunk.length;
    for (const kept of this.kept) keep(kept, start, chunk);
    const joined = new Uint8Array(this.tail.length + Math.min(chunk.length, TAIL_LENGTH));
    joined.set(this.tail);
    joined.set(chunk.subarray(-TAIL_LENGTH), this.tail.length);
    this.tail = joined.slice(-TAIL_LENGTH);
    if (this.knowsStructures || this.length < HEAD_LENGTH) return;
    // What is behind the start has only just begun to come in.
    this.findStructures();
    for (const kept of this.kept.slice(1)) keep(kept, start, chunk);
  }

  /** The start is there: what it says of the rest is worth keeping. */
  private findStructures(): void {
    if (this.knowsStructures) return;
    this.knowsStructures = true;
    const [{ bytes, filled }] = this.kept as [Kept];
    for (const offset of structuresOf(bytes.subarray(0, filled))) {
      if (offset + STRUCTURE_LENGTH > HEAD_LENGTH) this.kept.push(keptFrom(offset, this.kept[0] as Kept));
    }
  }
}

function keptAt(offset: number, length: number): Kept {
  return { offset, bytes: new Uint8Array(length), filled: 0 };
}

/** A structure that may begin within the start. */
function keptFrom(offset: number, head: Kept): Kept {
  const kept = keptAt(offset, STRUCTURE_LENGTH);
  keep(kept, head.offset, head.bytes.subarray(0, head.filled));
  return kept;
}

/** Takes what continues the stretch. */
function keep(kept: Kept, start: number, chunk: Uint8Array): void {
  const wanted = kept.offset + kept.filled - start;
  if (wanted < 0 || wanted >= chunk.length) return;
  const piece = chunk.subarray(wanted, wanted + kept.bytes.length - kept.filled);
  kept.bytes.set(piece, kept.filled);
  kept.filled += piece.length;
}

/** Where the header of a qcow2 image says that its lists are: not checked, only held. */
function structuresOf(head: Uint8Array): number[] {
  if (head.length < 104 || !hasBytes(head, 0, QCOW_MAGIC)) return [];
  const view = viewOf(head);
  const offsets = [Number(view.getBigUint64(64))];
  let at = view.getUint32(4) === 2 ? 72 : view.getUint32(100);
  for (let count = 0; count < MOST_EXTENSIONS && at + 32 <= head.length; count++) {
    const [type, length] = [view.getUint32(at), view.getUint32(at + 4)];
    if (type === BITMAPS) offsets.push(Number(view.getBigUint64(at + 24)));
    if (type === ENCRYPTION_HEADER) offsets.push(Number(view.getBigUint64(at + 8)));
    if (type === 0) break;
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return offsets.filter((offset) => Number.isSafeInteger(offset) && offset > 0);
}
