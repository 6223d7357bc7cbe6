/**
 * Ranges of one file on an HTTP server (RFC 9110, sections 13 and 14), all of them of the same version of it: what the
 * server said of the file in its first answer must be true of every later one.
 */

import { CorralError, cancelled } from './errors.js';
import { Semaphore } from './semaphore.js';

export interface HttpOptions {
  /** Default: the host's own. */
  fetch?: typeof fetch;
  /** Sent with every request. A redirect is not followed then: whom it leads to must not learn them. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Requests at once; default 4. */
  requests?: number;
  /** Bytes that may be received in all; default: no limit. */
  maximumBytes?: number;
  /** Bytes of a file that may be downloaded whole, into memory, when the server has no ranges; default 64 MiB, 0: never. */
  maximumDownload?: number;
  /** Milliseconds without a byte after which a request has failed; default 30000. */
  timeout?: number;
  /** How often a request is made again when the connection broke or the server was overloaded; default 2. */
  retries?: number;
  /** Told what is not as it should be, but can be done. */
  onWarning?: (message: string) => void;
  /** Ends everything that is under way, and all that would come. */
  signal?: AbortSignal;
}

const MIB = 1024 * 1024;
const DEFAULT_DOWNLOAD = 64 * MIB;
const DEFAULT_REQUESTS = 4;
const DEFAULT_TIMEOUT = 30_000;
const DEFAULT_RETRIES = 2;
/** Milliseconds before the first repetition; before each later one twice as many. */
const FIRST_PAUSE = 250;
/** The answers that may be others a moment later. */
const TRANSIENT = [408, 425, 429, 500, 502, 503, 504];

/** What tells versions of a file apart. */
interface Version {
  readonly length: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

interface Answer {
  readonly response: Response;
  /** All of it. */
  readonly body: Uint8Array;
}

export class HttpRanges {
  private version: Version = { length: 0, etag: null, lastModified: null };
  /** Where the URL led to: asked for directly from then on. */
  private target: string;
  private received = 0;
  /** Bytes that requests under way have asked for. */
  private expected = 0;
  private readonly slots: Semaphore;
  private readonly ending = new AbortController();
  /** The file is another one now; nothing is read from it any more. */
  private changed: CorralError | undefined;
  /** The whole file, when the server has no ranges. */
  private whole: Uint8Array | undefined;
  /** The beginning of the file, from the first answer. */
  firstBytes: Uint8Array = new Uint8Array(0);

  private constructor(
    readonly url: string,
    private readonly options: HttpOptions,
  ) {
    this.target = url;
    this.slots = new Semaphore(options.requests ?? DEFAULT_REQUESTS);
    const { signal } = options;
    if (signal?.aborted) this.ending.abort(signal.reason);
    signal?.addEventListener('abort', () => this.ending.abort(signal.reason), { once: true });
  }

  /** Asks for the first bytes, and learns the length from the answer. Rejects as `HttpFile.open` does. */
  static async open(url: string, firstLength: number, options: HttpOptions): Promise<HttpRanges> {
    const ranges = new HttpRanges(checkedUrl(url), options);
    await ranges.slots.run(() => ranges.repeated(() => ranges.askFirst(firstLength)));
    return ranges;
  }

  /** Bytes of the file. */
  get length(): number {
    return this.version.length;
  }

  /** Bytes that have been received. */
  get bytesReceived(): number {
    return this.received;
  }

  /** Exactly this stretch, which must lie inside the file; at least one byte. */
  async range(offset: number, length: number): Promise<Uint8Array> {
    if (this.whole !== undefined) return this.whole.subarray(offset, offset + length);
    return this.slots.run(() => this.repeated(() => this.ask(offset, length)));
  }

  /** Ends what is under way. */
  close(): void {
    this.ending.abort();
  }

  private async askFirst(length: number): Promise<void> {
    const { response, body } = await this.get(this.url, { offset: 0, length, first: true });
    const { status } = response;
    this.follow(response);
    const etag = response.headers.get('etag');
    const lastModified = response.headers.get('last-modified');
    if (status === 206) {
      const range = this.contentRange(response);
      if (range.start !== 0 || body.length !== Math.min(length, range.total)) throw this.wrongRange(response);
      this.version = { length: range.total, etag, lastModified };
      this.firstBytes = body;
    } else if (status === 416) {
      // Of an empty file there is no first byte.
      this.version = { length: 0, etag, lastModified };
    } else {
      this.whole = body;
      this.version = { length: body.length, etag, lastModified };
      this.warn(`The server does not serve parts of the file: all ${body.length} bytes were downloaded`);
    }
    if (status === 206 && etag === null && lastModified === null) {
      this.warn(
        'The server sends neither ETag nor Last-Modified: a change of the file is noticed only when its length changes',
      );
    }
  }

  private async ask(offset: number, length: number): Promise<Uint8Array> {
    if (this.changed !== undefined) throw this.changed;
    try {
      return await this.askAt(this.target, offset, length);
    } catch (error) {
      // What a redirect leads to is often valid for some minutes only.
      const isOver = error instanceof CorralError && ['ERR_PERMISSION', 'ERR_NOT_FOUND'].includes(error.code);
      if (!isOver || this.target === this.url) throw error;
      return this.askAt(this.url, offset, length);
    }
  }

  private async askAt(url: string, offset: number, length: number): Promise<Uint8Array> {
    const { response, body } = await this.get(url, { offset, length, first: false });
    if (response.status === 412) throw this.hasChanged();
    if (response.status !== 206) throw this.error('ERR_IO', 'The server has stopped serving parts of the file');
    const range = this.contentRange(response);
    const { etag, lastModified } = this.version;
    const headers = response.headers;
    const isOther =
      range.total !== this.version.length ||
      (etag !== null && headers.get('etag') !== etag) ||
      // An answer may leave it out (RFC 9110, section 15.3.7).
      (etag === null && lastModified !== null && (headers.get('last-modified') ?? lastModified) !== lastModified);
    if (isOther) throw this.hasChanged();
    if (range.start !== offset || body.length !== length) throw this.wrongRange(response);
    this.follow(response);
    return body;
  }

  /** One request, with its whole body. */
  private async get(url: string, wanted: { offset: number; length: number; first: boolean }): Promise<Answer> {
    const { offset, length, first } = wanted;
    const { maximumBytes = Number.POSITIVE_INFINITY, headers } = this.options;
    if (this.received + this.expected + length > maximumBytes) throw this.overBudget(maximumBytes);
    const stall = new Stall(this.options.timeout ?? DEFAULT_TIMEOUT, this.ending.signal);
    this.expected += length;
    try {
      const response = await (this.options.fetch ?? fetch)(url, {
        headers: this.headersFor(url, offset, length),
        // Followed once: whoever answers later is who answered first.
        redirect: url === this.url && headers === undefined ? 'follow' : 'manual',
        cache: 'no-store',
        referrerPolicy: 'no-referrer',
        signal: stall.signal,
      });
      if (response.status === 206) {
        const encoding = response.headers.get('content-encoding');
        if (encoding !== null && encoding !== 'identity') {
          stall.stop();
          throw this.error('ERR_UNSUPPORTED', `The server sends parts in the content coding '${encoding}'`);
        }
        return { response, body: await this.body(response, length, stall) };
      }
      if (response.status === 200 && first) return { response, body: await this.wholeBody(response, stall) };
      await response.body?.cancel();
      const isEmpty = response.status === 416 && first && isEmptyRange(response);
      if (!isEmpty && response.status !== 412 && response.status !== 200) throw this.refused(response);
      return { response, body: new Uint8Array(0) };
    } catch (error) {
      throw this.explained(error, stall);
    } finally {
      this.expected -= length;
      stall.end();
    }
  }

  private async wholeBody(response: Response, stall: Stall): Promise<Uint8Array> {
    const { maximumBytes = Number.POSITIVE_INFINITY, maximumDownload = DEFAULT_DOWNLOAD } = this.options;
    const limit = Math.min(maximumDownload, maximumBytes - this.received);
    const claimed = Number(response.headers.get('content-length') ?? 0);
    if (claimed > limit) {
      stall.stop();
      throw this.tooLong(limit, claimed);
    }
    return this.body(response, limit, stall);
  }

  /** Never more than `limit` bytes, whatever the server sends. */
  private async body(response: Response, limit: number, stall: Stall): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    const reader = response.body?.getReader();
    while (reader !== undefined) {
      const { done, value } = await reader.read();
      if (done) break;
      stall.moved();
      length += value.length;
      this.received += value.length;
      if (length > limit) {
        await reader.cancel();
        throw response.status === 206 ? this.wrongRange(response) : this.tooLong(limit);
      }
      pieces.push(value);
    }
    if (pieces.length === 1) return pieces[0] as Uint8Array;
    const whole = new Uint8Array(length);
    let position = 0;
    for (const piece of pieces) {
      whole.set(piece, position);
      position += piece.length;
    }
    return whole;
  }

  private headersFor(url: string, offset: number, length: number): Record<string, string> {
    const { etag, lastModified } = this.version;
    const headers: Record<string, string> = { ...this.options.headers };
    headers.range = `bytes=${offset}-${offset + length - 1}`;
    // Elsewhere the browser would ask the server first whether such headers may be sent; the answers are compared anyway.
    if (isForeign(url)) return headers;
    if (etag !== null && !etag.startsWith('W/')) headers['if-match'] = etag;
    else if (etag === null && lastModified !== null) headers['if-unmodified-since'] = lastModified;
    return headers;
  }

  /** Goes on asking where the answer came from. */
  private follow({ url }: Response): void {
    if (url === '') return;
    if (this.url.startsWith('https:') && !url.startsWith('https:')) {
      throw this.error('ERR_UNSUPPORTED', 'The server leads from https to a place without it');
    }
    this.target = url;
  }

  private contentRange(response: Response): { start: number; total: number } {
    const text = response.headers.get('content-range');
    if (text === null) {
      const hint = isForeign(response.url || this.url)
        ? ': it must allow this page to see it (Access-Control-Expose-Headers: Content-Range, ETag)'
        : '';
      throw this.error('ERR_UNSUPPORTED', `The server's answer has no Content-Range${hint}`);
    }
    const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(text.trim());
    const [start, end, total] = (match ?? []).slice(1).map(Number) as [number?, number?, number?];
    if (start === undefined || end === undefined || total === undefined || !Number.isSafeInteger(total)) {
      throw this.error('ERR_UNSUPPORTED', 'The server does not say how long the file is');
    }
    if (start > end || end >= total) throw this.wrongRange(response);
    return { start, total };
  }

  /** Again after a while, when it may go better then. */
  private async repeated<T>(work: () => Promise<T>): Promise<T> {
    const { retries = DEFAULT_RETRIES } = this.options;
    for (let attempt = 0; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        const isTransient = error instanceof CorralError && error.details.transient === true;
        if (!isTransient || attempt >= retries || this.ending.signal.aborted) throw error;
        await pause(FIRST_PAUSE * 2 ** attempt, this.ending.signal);
      }
    }
  }

  private explained(error: unknown, stall: Stall): unknown {
    if (error instanceof CorralError) return error;
    if (this.ending.signal.aborted) return cancelled(this.ending.signal);
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const reason = stall.isStalled ? 'The server has stopped answering' : `The server cannot be reached: ${cause}`;
    return new CorralError('ERR_IO', { path: this.url, reason, transient: true, cause: error });
  }

  private refused({ status, statusText, type }: Response): CorralError {
    if (type === 'opaqueredirect' || (status >= 300 && status < 400)) {
      return this.error('ERR_UNSUPPORTED', 'The server leads elsewhere, where this must not be followed');
    }
    const reason = `The server answered ${status} ${statusText}`.trimEnd();
    if (status === 404 || status === 410) return this.error('ERR_NOT_FOUND', reason);
    if (status === 401 || status === 403 || status === 407) return this.error('ERR_PERMISSION', reason);
    const transient = TRANSIENT.includes(status);
    return new CorralError('ERR_IO', { path: this.url, reason, status, transient });
  }

  private hasChanged(): CorralError {
    this.changed ??= this.error('ERR_IO', 'The file on the server has changed since it was opened');
    return this.changed;
  }

  private wrongRange(response: Response): CorralError {
    const range = response.headers.get('content-range');
    return this.error('ERR_IO', `The server sent other bytes than it was asked for (Content-Range: ${range})`);
  }

  private tooLong(limit: number, length?: number): CorralError {
    const size = length === undefined ? '' : ` of ${length} bytes`;
    return this.error(
      'ERR_TOO_LARGE',
      `The server does not serve parts of files, and this one${size} is longer than the ${limit} bytes that may be ` +
        'downloaded whole',
    );
  }

  private overBudget(limit: number): CorralError {
    return this.error('ERR_TOO_LARGE', `More than the ${limit} bytes that may be received would have to be`);
  }

  private error(code: ConstructorParameters<typeof CorralError>[0], reason: string): CorralError {
    return new CorralError(code, { path: this.url, reason });
  }

  private warn(message: string): void {
    this.options.onWarning?.(message);
  }
}

/** The end of a request on which nothing moves, or that is to end. */
class Stall {
  private readonly controller = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  isStalled = false;
  private readonly onEnd = () => this.controller.abort(this.outer.reason);

  constructor(
    private readonly timeout: number,
    private readonly outer: AbortSignal,
  ) {
    if (outer.aborted) this.onEnd();
    outer.addEventListener('abort', this.onEnd, { once: true });
    this.moved();
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Something has come. */
  moved(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.isStalled = true;
      this.controller.abort();
    }, this.timeout);
  }

  /** Nobody wants the rest. */
  stop(): void {
    this.controller.abort();
  }

  end(): void {
    clearTimeout(this.timer);
    this.outer.removeEventListener('abort', this.onEnd);
  }
}

function checkedUrl(text: string): string {
  let url: URL | undefined;
  try {
    url = new URL(text, globalThis.location?.href);
  } catch {
    // said below
  }
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { path: text, reason: 'Not an http or https URL' });
  }
  if (url.username !== '' || url.password !== '') {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'A URL with a name or password in it: use headers' });
  }
  url.hash = '';
  return url.href;
}

/** A page may not ask this server for everything, nor see all that it answers. */
function isForeign(url: string): boolean {
  const own = globalThis.origin;
  return own !== undefined && new URL(url).origin !== own;
}

/** The answer about an empty file. */
function isEmptyRange(response: Response): boolean {
  return response.headers.get('content-range')?.trim() === 'bytes */0';
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
  });
}
