/** What the tests of the NBD server share: a client that speaks the protocol by hand, and exports to serve. */
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { MetaContext, NbdExport } from '../../host/nbd/export.js';
import { type NbdServer, type NbdServerOptions, serveNbd } from '../../host/nbd/server.js';

/** An export in memory that counts what is asked of it. */
export class MemoryExport implements NbdExport {
  readonly name: string = 'disk';
  readonly readOnly: boolean;
  readonly preferredBlockSize: number = 65536;
  zeroesFast = true;
  contexts: readonly MetaContext[] = [];
  readonly bytes: Uint8Array;
  flushCount = 0;
  readonly durableWrites: boolean[] = [];
  readonly unmappedZeroes: boolean[] = [];
  readonly discards: [number, number][] = [];

  constructor(size: number, options: { readOnly?: boolean } = {}) {
    this.bytes = new Uint8Array(size);
    this.readOnly = options.readOnly ?? false;
  }

  get size(): number {
    return this.bytes.length;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    target.set(this.bytes.subarray(offset, offset + target.length));
  }

  async write(offset: number, source: Uint8Array, options: { durable: boolean }): Promise<void> {
    this.bytes.set(source, offset);
    this.durableWrites.push(options.durable);
  }

  async writeZeroes(offset: number, length: number, options: { durable: boolean; unmap: boolean }): Promise<void> {
    this.bytes.fill(0, offset, offset + length);
    this.durableWrites.push(options.durable);
    this.unmappedZeroes.push(options.unmap);
  }

  async discard(offset: number, length: number): Promise<void> {
    this.discards.push([offset, length]);
  }

  async flush(): Promise<void> {
    this.flushCount += 1;
  }
}

/** A promise that the test ends. */
export class Gate {
  readonly opened: Promise<void>;
  open: () => void = () => {};

  constructor() {
    this.opened = new Promise((resolve) => {
      this.open = resolve;
    });
  }
}

/** A folder that goes away with the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'corral-nbd-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A server on a socket of its own that is closed with the test, and the lines it logged. */
export async function serve(
  exported: NbdExport | readonly NbdExport[],
  options: NbdServerOptions = {},
): Promise<{ server: NbdServer; lines: string[] }> {
  const lines: string[] = [];
  const where =
    options.socketPath !== undefined || options.tcp !== undefined
      ? {}
      : { socketPath: join(await temporaryFolder(), 'socket') };
  const server = await serveNbd(exported, { log: (line) => lines.push(line), ...where, ...options });
  onTestFinished(() => server.close().catch(() => {}));
  return { server, lines };
}

/** Waits until something holds; the test's own time limit ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** A request's fields; what is left out is zero. */
export interface RequestFields {
  readonly command: number;
  readonly cookie?: bigint;
  readonly offset?: number | bigint;
  readonly length?: number;
  readonly flags?: number;
  readonly data?: Uint8Array;
}

/** One reply, simple or structured. */
export interface Reply {
  readonly structured: boolean;
  readonly cookie: bigint;
  /** Of a structured reply. */
  readonly type: number;
  readonly error: number;
  readonly data: Buffer;
}

/** What a client agrees on with the server. */
export interface EnterOptions {
  readonly structured?: boolean;
  readonly extended?: boolean;
  /** Names. */
  readonly contexts?: readonly string[];
}

/** A client that sends what the test says, right or wrong. */
export class NbdClient {
  readonly socket: Socket;
  /** The server hung up. */
  ended = false;
  /** Extended headers were agreed on. */
  extended = false;
  #received: Buffer[] = [];
  #length = 0;
  #wake: () => void = () => {};

  /** Connects, and reads nothing yet. */
  static async connect(server: NbdServer): Promise<NbdClient> {
    const socket =
      server.socketPath === undefined ? connect(server.port ?? 0, server.host) : connect(server.socketPath);
    const client = new NbdClient(socket);
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    onTestFinished(() => {
      socket.destroy();
    });
    return client;
  }

  /** Connects and goes through the shortest handshake into the transmission phase. */
  static async enter(server: NbdServer, options: EnterOptions = {}): Promise<NbdClient> {
    const client = await NbdClient.connect(server);
    await client.take(18);
    client.send(uint32(3));
    if (options.structured || options.extended) {
      client.sendOption(options.extended ? 11 : 8);
      await client.takeOptionReply();
      client.extended = options.extended ?? false;
    }
    if (options.contexts) {
      client.sendOption(10, encodeContextRequest('', options.contexts));
      while ((await client.takeOptionReply()).type === 4) {
        // One for each context.
      }
    }
    client.sendOption(1);
    await client.take(10);
    return client;
  }

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#length += chunk.length;
      this.#wake();
    });
    const end = (): void => {
      this.ended = true;
      this.#wake();
    };
    socket.on('end', end).on('close', end).on('error', end);
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next bytes; an error when the server hangs up instead. */
  async take(length: number): Promise<Buffer> {
    while (this.#length < length) {
      if (this.ended) {
        throw new Error(`the server hung up after ${this.#length} of ${length} bytes`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = Buffer.concat(this.#received);
    this.#received = [all.subarray(length)];
    this.#length -= length;
    return all.subarray(0, length);
  }

  /** Everything until the server hangs up. */
  async takeEnd(): Promise<Buffer> {
    while (!this.ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return await this.take(this.#length);
  }

  sendOption(option: number, data: Uint8Array = new Uint8Array(0)): void {
    const header = Buffer.alloc(16);
    header.write('IHAVEOPT', 'latin1');
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.length, 12);
    this.send(Buffer.concat([header, data]));
  }

  async takeOptionReply(): Promise<{ option: number; type: number; data: Buffer }> {
    const header = await this.take(20);
    if (header.readBigUInt64BE(0) !== 0x3e889045565a9n) {
      throw new Error('this is no reply to an option');
    }
    const data = await this.take(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  sendRequest(fields: RequestFields): void {
    this.send(this.extended ? encodeExtendedRequest(fields) : encodeRequest(fields));
  }

  /** @param length the data that a simple reply to a read carries. */
  async takeReply(length = 0): Promise<Reply> {
    const magic = (await this.take(4)).readUInt32BE(0);
    if (magic === 0x67446698) {
      const header = await this.take(12);
      const error = header.readUInt32BE(0);
      const data = await this.take(error === 0 ? length : 0);
      return { structured: false, cookie: header.readBigUInt64BE(4), type: 0, error, data };
    }
    const { isLast, ...reply } = await this.#takeChunk(magic);
    if (!isLast) {
      throw new Error('the only chunk of a reply is not marked as its last');
    }
    return reply;
  }

  /** All chunks of one reply. */
  async takeChunks(): Promise<Reply[]> {
    const chunks: Reply[] = [];
    while (true) {
      const { isLast, ...reply } = await this.#takeChunk((await this.take(4)).readUInt32BE(0));
      chunks.push(reply);
      if (isLast) return chunks;
    }
  }

  async #takeChunk(magic: number): Promise<Reply & { isLast: boolean }> {
    if (magic !== (this.extended ? 0x6e8a278c : 0x668e33ef)) {
      throw new Error(`0x${magic.toString(16)} starts no reply`);
    }
    const header = await this.take(this.extended ? 28 : 16);
    const isLast = header.readUInt16BE(0) === 1;
    const type = header.readUInt16BE(2);
    const data = await this.take(header.readUInt32BE(this.extended ? 24 : 12));
    const error = type === 0x8001 ? data.readUInt32BE(0) : 0;
    return { structured: true, cookie: header.readBigUInt64BE(4), type, error, data, isLast };
  }

  /** Sends one request and waits for its reply. */
  async ask(fields: RequestFields): Promise<Reply> {
    this.sendRequest(fields);
    return await this.takeReply(fields.command === 0 ? fields.length : 0);
  }
}

/** The bytes of a request. */
export function encodeRequest(fields: RequestFields): Buffer {
  const data = fields.data ?? new Uint8Array(0);
  const header = Buffer.alloc(28);
  header.writeUInt32BE(0x25609513, 0);
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(fields.command, 6);
  header.writeBigUInt64BE(fields.cookie ?? 0n, 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeUInt32BE(fields.length ?? data.length, 24);
  return Buffer.concat([header, data]);
}

/** The same with an extended header; the length is announced as that of data when there are some. */
function encodeExtendedRequest(fields: RequestFields): Buffer {
  const data = fields.data ?? new Uint8Array(0);
  const header = Buffer.alloc(32);
  header.writeUInt32BE(0x21e41c71, 0);
  header.writeUInt16BE((fields.flags ?? 0) | (fields.data ? 32 : 0), 4);
  header.writeUInt16BE(fields.command, 6);
  header.writeBigUInt64BE(fields.cookie ?? 0n, 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeBigUInt64BE(BigInt(fields.length ?? data.length), 24);
  return Buffer.concat([header, data]);
}

/** The data of the options LIST_META_CONTEXT and SET_META_CONTEXT. */
export function encodeContextRequest(name: string, queries: readonly string[]): Buffer {
  const strings = [name, ...queries].map((text) => Buffer.concat([uint32(Buffer.byteLength(text)), Buffer.from(text)]));
  return Buffer.concat([strings[0] as Buffer, uint32(queries.length), ...strings.slice(1)]);
}

/** The data of the options INFO and GO. */
export function encodeInfoRequest(name: string, wanted: readonly number[] = []): Buffer {
  const bytes = Buffer.from(name);
  const list = Buffer.alloc(2 + 2 * wanted.length);
  list.writeUInt16BE(wanted.length, 0);
  wanted.forEach((item, index) => {
    list.writeUInt16BE(item, 2 + 2 * index);
  });
  return Buffer.concat([uint32(bytes.length), bytes, list]);
}

/** A big-endian number. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}
