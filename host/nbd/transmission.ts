/** The transmission phase: requests in, replies out, many at a time. */
import { BufferPool } from './buffer-pool.js';
import { errorValueOf, messageOf, RequestError } from './error-value.js';
import type { NbdExport } from './export.js';
import { LONGEST_STATUS, statusOf } from './meta-contexts.js';
import type { Agreement } from './negotiation.js';
import { Command, CommandFlag, MAXIMUM_PAYLOAD, ProtocolError } from './protocol.js';
import type { ReplyWriter } from './reply-writer.js';
import { payloadLength, refusalOf } from './request-check.js';
import type { SocketReader } from './socket-reader.js';
import {
  dataHeaderLength,
  decodeRequest,
  encodeBlockStatus,
  encodeFailure,
  encodeNothingRead,
  encodeSuccess,
  type MessageFormat,
  putDataHeader,
  type RequestHeader,
  requestLength,
} from './transmission-messages.js';
import { Window, type WindowLimits } from './window.js';

/** One longest request, or many short ones. */
const LIMITS: WindowLimits = { requests: 128, bytes: MAXIMUM_PAYLOAD };
/** Room for a reply's header in front of its data, which begin at a round address. */
const HEADROOM = 64;
/** Bytes that are fetched at a time when a client wants a range to be in the cache. */
const CACHE_PIECE = 1024 * 1024;
/** More than this is not skipped to come to the next request. */
const LONGEST_SKIP = 2 ** 32;

/** What a transmission works with. */
export interface TransmissionParts {
  readonly reader: SocketReader;
  readonly writer: ReplyWriter;
  readonly agreement: Agreement;
  /** Told of the first failure that is not the client's fault. */
  readonly onFailure: (message: string) => void;
}

/**
 * Serves the requests of one client.
 *
 * A request enters the window, its data is taken from the socket, and the export works on it while the next one
 * is taken; each is answered as it ends. Client input never makes this allocate more than the window's bytes.
 */
export class Transmission {
  readonly #reader: SocketReader;
  readonly #writer: ReplyWriter;
  readonly #agreement: Agreement;
  readonly #exported: NbdExport;
  readonly #format: MessageFormat;
  readonly #onFailure: (message: string) => void;
  readonly #window = new Window(LIMITS);
  readonly #pool = new BufferPool();
  /** What the export works on. */
  readonly #working = new Set<Promise<void>>();
  #cacheTarget: Uint8Array | undefined;
  #failureReported = false;
  #stopped = false;

  constructor(parts: TransmissionParts) {
    this.#reader = parts.reader;
    this.#writer = parts.writer;
    this.#agreement = parts.agreement;
    this.#exported = parts.agreement.exported;
    this.#format = parts.agreement.format;
    this.#onFailure = parts.onFailure;
  }

  /**
   * Takes requests until the client disconnects, breaks the protocol or `stop` is called. Always waits until the
   * export is done with every request that was taken; the replies may still be on their way.
   *
   * @throws ProtocolError when the client breaks the protocol.
   */
  async run(): Promise<void> {
    try {
      await this.#takeRequests();
    } finally {
      await Promise.all(this.#working);
    }
  }

  /** Takes no more requests; those that were taken whole are still answered. */
  stop(): void {
    this.#stopped = true;
    this.#window.close();
    this.#reader.stop();
  }

  /** What is here already is taken without waiting: at high depth that is most of it. */
  async #takeRequests(): Promise<void> {
    const length = requestLength(this.#format);
    const own = Buffer.alloc(length);
    while (true) {
      let header = this.#reader.takeNow(length);
      if (header === undefined) {
        const came = await this.#reader.fill(own);
        if (came < length) return this.#checkEnd(came);
        header = own;
      }
      const request = decodeRequest(header, this.#format);
      if (request.command === Command.Disc) return;
      const refusal = refusalOf(request, this.#agreement);
      // A refused request holds no buffer, only its place in the line.
      const bytes = refusal ? 0 : this.#bufferLengthOf(request);
      if (!this.#window.enterNow(bytes) && !(await this.#window.enter(bytes))) return;
      const payload = payloadLength(request, this.#agreement);
      if (payload === 0) {
        this.#answer(request, bytes, refusal ? Promise.reject(refusal) : this.#work(request));
      } else if (!(await this.#takePayload(request, bytes, { payload, refusal }))) {
        return this.#checkEnd(length);
      }
    }
  }

  /** @returns false when the data of the request did not all come. */
  async #takePayload(
    request: RequestHeader,
    bytes: number,
    { payload, refusal }: { payload: number; refusal: RequestError | undefined },
  ): Promise<boolean> {
    if (refusal) {
      if (payload >= LONGEST_SKIP) throw new ProtocolError(`${payload} bytes of data for a request that was refused`);
      if ((await this.#reader.skip(payload)) < payload) return false;
      this.#answer(request, bytes, Promise.reject(refusal));
      return true;
    }
    // What is here already is written from where it is.
    const here = this.#reader.takeNow(payload);
    if (here !== undefined) {
      this.#answer(request, bytes, this.#write(request, here));
      return true;
    }
    const data = this.#pool.take(payload);
    if ((await this.#reader.fill(data)) < payload) return false;
    this.#answer(
      request,
      bytes,
      this.#write(request, data).finally(() => this.#pool.giveBack(data)),
    );
    return true;
  }

  /** The socket gave less than was needed, after this many bytes of a request. */
  #checkEnd(came: number): void {
    if (came > 0 && !this.#reader.stopped) {
      throw new ProtocolError('the client hung up in the middle of a request');
    }
  }

  /** What a request makes this process hold, in bytes. */
  #bufferLengthOf({ command, length }: RequestHeader): number {
    switch (command) {
      case Command.Read:
      case Command.Write:
        return length;
      case Command.BlockStatus:
        return this.#agreement.contexts.length * LONGEST_STATUS;
      default:
        return 0;
    }
  }

  /** Answers a request when its work ends, and only then lets go of its place in the window. */
  #answer(request: RequestHeader, bytes: number, work: Promise<Reply>): void {
    const answered = work
      .catch((failure: unknown) => this.#failureReply(request, failure))
      .then((reply) => {
        this.#working.delete(answered);
        this.#writer.send(reply.message, () => {
          if (reply.buffer !== undefined) this.#pool.giveBack(reply.buffer);
          this.#window.leave(bytes);
        });
      });
    this.#working.add(answered);
  }

  /** What is asked without sending data. */
  #work(request: RequestHeader): Promise<Reply> {
    switch (request.command) {
      case Command.Read:
        return this.#read(request);
      case Command.Write:
        return Promise.resolve(this.#success(request));
      case Command.WriteZeroes:
        return this.#writeZeroes(request);
      case Command.Trim:
        return this.#trim(request);
      case Command.Cache:
        return this.#cache(request);
      case Command.BlockStatus:
        return this.#blockStatus(request);
      default:
        return this.#flush(request);
    }
  }

  async #read(request: RequestHeader): Promise<Reply> {
    const { offset, length } = request;
    if (length === 0) return { message: encodeNothingRead(request, this.#format) };
    const buffer = this.#pool.take(HEADROOM + length);
    await this.#exported.read(offset, buffer.subarray(HEADROOM));
    const start = HEADROOM - dataHeaderLength(this.#format);
    putDataHeader(buffer, start, request, this.#format);
    return { message: buffer.subarray(start), buffer };
  }

  async #write(request: RequestHeader, data: Buffer): Promise<Reply> {
    await this.#exported.write(request.offset, data, { durable: (request.flags & CommandFlag.Fua) !== 0 });
    return this.#success(request);
  }

  async #writeZeroes(request: RequestHeader): Promise<Reply> {
    const { flags, offset, length } = request;
    if (length > 0) {
      const durable = (flags & CommandFlag.Fua) !== 0;
      await this.#exported.writeZeroes(offset, length, { durable, unmap: (flags & CommandFlag.NoHole) === 0 });
    }
    return this.#success(request);
  }

  async #trim(request: RequestHeader): Promise<Reply> {
    const { flags, offset, length } = request;
    if (length > 0) await this.#exported.discard(offset, length);
    if ((flags & CommandFlag.Fua) !== 0) await this.#exported.flush();
    return this.#success(request);
  }

  /** Whoever keeps what was read, the system or the export, has it then. A server that ends does not go on with it. */
  async #cache(request: RequestHeader): Promise<Reply> {
    const { offset, length } = request;
    this.#cacheTarget ??= new Uint8Array(CACHE_PIECE);
    for (let done = 0; done < length && !this.#stopped; done += CACHE_PIECE) {
      const target = this.#cacheTarget.subarray(0, Math.min(CACHE_PIECE, length - done));
      await this.#exported.read(offset + done, target);
    }
    return this.#success(request);
  }

  async #blockStatus(request: RequestHeader): Promise<Reply> {
    const { offset, length, flags } = request;
    const format = this.#format === 'extended' ? 'extended' : 'structured';
    const onlyOne = (flags & CommandFlag.ReqOne) !== 0;
    const question = { offset, length, onlyOne, isExtended: format === 'extended' };
    const contexts = await Promise.all(this.#agreement.contexts.map((context) => statusOf(context, question)));
    return { message: encodeBlockStatus(request, format, contexts) };
  }

  async #flush(request: RequestHeader): Promise<Reply> {
    if (!this.#exported.readOnly) await this.#exported.flush();
    return this.#success(request);
  }

  #success(request: RequestHeader): Reply {
    return { message: encodeSuccess(request, this.#format) };
  }

  #failureReply(request: RequestHeader, failure: unknown): Reply {
    if (!(failure instanceof RequestError) && !this.#failureReported) {
      this.#failureReported = true;
      this.#onFailure(messageOf(failure));
    }
    return { message: encodeFailure(request, this.#format, errorValueOf(failure), messageOf(failure)) };
  }
}

/** What a client gets. */
interface Reply {
  readonly message: Uint8Array;
  /** The pool's, when the message is gone. */
  readonly buffer?: Buffer;
}
