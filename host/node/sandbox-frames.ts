/**
 * What a sandboxed child and its parent say to each other: frames of a length (32 bits, little-endian), a kind (8 bits) and
 * that many bytes. The parent believes nothing of what it gets.
 */

export enum FrameKind {
  /** To the child: the core, then the job, once each. */
  Core = 1,
  Job = 2,
  /** To the child: the bytes that it asked for; `ReadFailed`: with the reason. */
  Bytes = 3,
  ReadFailed = 4,
  /** From the child: it runs, and has looked at nothing so far. */
  Ready = 16,
  /** From the child: wants bytes of the file, as two numbers of 64 bits (floating point): offset and length. */
  Read = 17,
  /** From the child: bytes of its result. */
  Data = 18,
  /** From the child: something that it has found, as JSON; bytes of it may follow. */
  Entry = 21,
  /** From the child, as its last words: the result, or a code and a reason, as JSON. */
  Answer = 19,
  Failure = 20,
}

export interface Frame {
  readonly kind: FrameKind;
  readonly payload: Uint8Array;
}

export const FRAME_HEAD = 5;

/** Bytes that a child may ask for, and send, at once. */
export const LONGEST_READ = 4 * 2 ** 20;
/** A report has at most a thousand findings; whatever there may be more of comes in many frames. */
const LONGEST_FRAME = 16 * 2 ** 20;

/** The head of a frame. */
export function frameHead(kind: FrameKind, length: number): Uint8Array {
  const head = new Uint8Array(FRAME_HEAD);
  new DataView(head.buffer).setUint32(0, length, true);
  head[4] = kind;
  return head;
}

export function parseHead(head: Uint8Array): { kind: FrameKind; length: number } {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return { kind: view.getUint8(4), length: view.getUint32(0, true) };
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  private readonly chunks: Uint8Array[] = [];
  private held = 0;

  /** The frames that are whole now. Throws `RangeError` when one says that it is longer than any. */
  *take(chunk: Uint8Array): Generator<Frame> {
    this.chunks.push(chunk);
    this.held += chunk.length;
    while (this.held >= FRAME_HEAD) {
      const { kind, length } = parseHead(this.peek(FRAME_HEAD));
      if (length > LONGEST_FRAME) throw new RangeError('a frame that is too long');
      if (this.held < FRAME_HEAD + length) return;
      const whole = this.peek(FRAME_HEAD + length);
      this.chunks[0] = (this.chunks[0] as Uint8Array).subarray(whole.length);
      this.held -= whole.length;
      yield { kind, payload: whole.subarray(FRAME_HEAD) };
    }
  }

  /** The first `length` bytes, which are held, in one piece. */
  private peek(length: number): Uint8Array {
    const [first] = this.chunks;
    if (first !== undefined && first.length >= length) return first.subarray(0, length);
    const joined = new Uint8Array(this.held);
    let at = 0;
    for (const chunk of this.chunks) {
      joined.set(chunk, at);
      at += chunk.length;
    }
    this.chunks.splice(0, this.chunks.length, joined);
    return joined.subarray(0, length);
  }
}
