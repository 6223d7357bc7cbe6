/** The transmission phase: requests in, replies out, many at a time. */
import { errorValueOf, messageOf, RequestError } from './error-value.js';
import type { NbdExport } from './export.js';
import type { Agreement } from './negotiation.js';
import {
  Command,
  CommandFlag,
  decodeRequest,
  ErrorValue,
  encodeError,
  encodeNone,
  encodeOffsetData,
  encodeSimpleReply,
  MAXIMUM_PAYLOAD,
  OFFSET_DATA_HEADER_LENGTH,
  ProtocolError,
  REQUEST_LENGTH,
  type RequestHeader,
  SIMPLE_REPLY_LENGTH,
} from './protocol.js';
import type { ReplyWriter } from './reply-writer.js';
import type { SocketReader } from './socket-reader.js';
import { Window, type WindowLimits } from './window.js';

/** The flags that each command may have. "Do not fragment" is added where structured replies were agreed on. */
const ALLOWED_FLAGS: ReadonlyMap<number, number> = new Map([
  [Command.Read, CommandFlag.Fua],
  [Command.Write, CommandFlag.Fua],
  [Command.WriteZeroes, CommandFlag.Fua | CommandFlag.NoHole],
  [Command.Trim, CommandFlag.Fua],
  [Command.Flush, CommandFlag.Fua],
]);

/** One longest request, or many short ones. */
const LIMITS: WindowLimits = { requests: 128, bytes: MAXIMUM_PAYLOAD };

/** What a transmission works with. */
export interface TransmissionParts {
  readonly reader: SocketReader;
  readonly writer: ReplyWriter;
  readonly exported: NbdExport;
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
  readonly #exported: NbdExport;
  readonly #structured: boolean;
  readonly #onFailure: (message: string) => void;
  readonly #window = new Window(LIMITS);
  /** What the export works on. */
  readonly #working = new Set<Promise<void>>();
  #failureReported = false;
  #stopped = false;

  constructor(parts: TransmissionParts) {
    this.#reader = parts.reader;
    this.#writer = parts.writer;
    this.#exported = parts.exported;
    this.#structured = parts.agreement.structuredReplies;
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
      while (await this.#takeRequest()) {
        // Each turn takes one request.
      }
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

  /** @returns false after the last one. */
  async #takeRequest(): Promise<boolean> {
    const header = Buffer.alloc(REQUEST_LENGTH);
    const came = await this.#reader.fill(header);
    if (came < header.length) {
      return this.#endAfter(came);
    }
    const request = decodeRequest(header);
    if (request.command === Command.Disc) {
      return false;
    }
    const refusal = this.#refusalOf(request);
    // A refused request holds no buffer, only its place in the line.
    const bytes = refusal ? 0 : bufferLengthOf(request);
    if (!(await this.#window.enter(bytes))) {
      return false;
    }
    if (request.command !== Command.Write) {
      this.#answer(request, bytes, refusal ? Promise.reject(refusal) : this.#work(request));
      return true;
    }
    const length = request.length;
    // Not cleared first: it is used only once it is full.
    const data = Buffer.allocUnsafeSlow(bytes);
    const dataCame = refusal ? await this.#reader.skip(length) : await this.#reader.fill(data);
    if (dataCame < length) {
      return this.#endAfter(REQUEST_LENGTH);
    }
    this.#answer(request, bytes, refusal ? Promise.reject(refusal) : this.#write(request, data));
    return true;
  }

  /** The socket gave less than was needed, after this many bytes of a request. */
  #endAfter(came: number): false {
    if (came > 0 && !this.#reader.stopped) {
      throw new ProtocolError('the client hung up in the middle of a request');
    }
    return false;
  }

  /** Why a request is not even tried. */
  #refusalOf(request: RequestHeader): RequestError | undefined {
    const { command, flags, offset, length } = request;
    const { size, readOnly } = this.#exported;
    const isWrite = command === Command.Write || command === Command.WriteZeroes || command === Command.Trim;
    if (readOnly && isWrite) {
      return new RequestError(ErrorValue.Perm, 'the export is read-only');
    }
    const allowedFlags = ALLOWED_FLAGS.get(command);
    if (allowedFlags === undefined) {
      return new RequestError(ErrorValue.Inval, `this server does not know command ${command}`);
    }
    const mayBeWhole = command === Command.Read && this.#structured ? CommandFlag.Df : 0;
    if ((flags & ~(allowedFlags | mayBeWhole)) !== 0) {
      return new RequestError(ErrorValue.Inval, `flags 0x${flags.toString(16)} do not go with command ${command}`);
    }
    if (command === Command.Flush && (offset !== 0 || length !== 0)) {
      return new RequestError(ErrorValue.Inval, 'a flush has neither offset nor length');
    }
    if (length > MAXIMUM_PAYLOAD && command !== Command.WriteZeroes && command !== Command.Trim) {
      const value = command === Command.Read && this.#structured ? ErrorValue.Overflow : ErrorValue.Inval;
      return new RequestError(value, `${length} bytes are more than the ${MAXIMUM_PAYLOAD} that one request may have`);
    }
    if (offset > size - length) {
      const value = isWrite ? ErrorValue.Nospc : ErrorValue.Inval;
      return new RequestError(value, `the range reaches beyond the export's ${size} bytes`);
    }
    return undefined;
  }

  /** Answers a request when its work ends, and only then lets go of its place in the window. */
  #answer(request: RequestHeader, bytes: number, work: Promise<Uint8Array>): void {
    const answered = work
      .catch((failure: unknown) => this.#failureReply(request, failure))
      .then((reply) => {
        this.#working.delete(answered);
        void this.#writer.send(reply).then(() => this.#window.leave(bytes));
      });
    this.#working.add(answered);
  }

  /** What is asked without sending data. */
  #work(request: RequestHeader): Promise<Uint8Array> {
    switch (request.command) {
      case Command.Read:
        return this.#read(request);
      case Command.WriteZeroes:
        return this.#writeZeroes(request);
      case Command.Trim:
        return this.#trim(request);
      default:
        return this.#flush(request);
    }
  }

  async #read(request: RequestHeader): Promise<Uint8Array> {
    const { cookie, offset, length } = request;
    if (length === 0) {
      // A chunk of data must have data.
      return this.#structured ? encodeNone(cookie) : this.#successReply(request);
    }
    // One buffer for header and data; the data begins at a round address. It is cleared, because what an export
    // fails to fill must not be this process's memory.
    const headroom = 64;
    const message = Buffer.alloc(headroom + length);
    await this.#exported.read(offset, message.subarray(headroom));
    if (this.#structured) {
      const start = headroom - OFFSET_DATA_HEADER_LENGTH;
      encodeOffsetData(message, start, cookie, { offset, length });
      return message.subarray(start);
    }
    const start = headroom - SIMPLE_REPLY_LENGTH;
    encodeSimpleReply(message, start, cookie, ErrorValue.None);
    return message.subarray(start);
  }

  async #write(request: RequestHeader, data: Uint8Array): Promise<Uint8Array> {
    if (data.length > 0) {
      await this.#exported.write(request.offset, data, { durable: (request.flags & CommandFlag.Fua) !== 0 });
    }
    return this.#successReply(request);
  }

  async #writeZeroes(request: RequestHeader): Promise<Uint8Array> {
    const { flags, offset, length } = request;
    if (length > 0) {
      const durable = (flags & CommandFlag.Fua) !== 0;
      await this.#exported.writeZeroes(offset, length, { durable, unmap: (flags & CommandFlag.NoHole) === 0 });
    }
    return this.#successReply(request);
  }

  async #trim(request: RequestHeader): Promise<Uint8Array> {
    const { flags, offset, length } = request;
    if (length > 0) await this.#exported.discard(offset, length);
    if ((flags & CommandFlag.Fua) !== 0) await this.#exported.flush();
    return this.#successReply(request);
  }

  async #flush(request: RequestHeader): Promise<Uint8Array> {
    if (!this.#exported.readOnly) {
      await this.#exported.flush();
    }
    return this.#successReply(request);
  }

  /** Only reads need a structured reply, and this one is shorter. */
  #successReply(request: RequestHeader): Uint8Array {
    const message = Buffer.alloc(SIMPLE_REPLY_LENGTH);
    encodeSimpleReply(message, 0, request.cookie, ErrorValue.None);
    return message;
  }

  #failureReply(request: RequestHeader, failure: unknown): Uint8Array {
    const value = errorValueOf(failure);
    if (!(failure instanceof RequestError) && !this.#failureReported) {
      this.#failureReported = true;
      this.#onFailure(messageOf(failure));
    }
    if (this.#structured) {
      return encodeError(request.cookie, value, messageOf(failure));
    }
    const message = Buffer.alloc(SIMPLE_REPLY_LENGTH);
    encodeSimpleReply(message, 0, request.cookie, value);
    return message;
  }
}

/** What a request makes this process hold, in bytes. */
function bufferLengthOf(request: RequestHeader): number {
  switch (request.command) {
    case Command.Read:
    case Command.Write:
      return request.length;
    default:
      return 0;
  }
}
