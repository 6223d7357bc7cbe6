/** The handshake: fixed newstyle, from the greeting until an export is chosen. */
import type { NbdExport } from './export.js';
import {
  CLIENT_FLAGS_LENGTH,
  decodeInfoRequest,
  decodeOptionHeader,
  encodeBlockSizeInfo,
  encodeExportInfo,
  encodeExportNameAnswer,
  encodeGreeting,
  encodeNameInfo,
  encodeOptionReply,
  encodeServer,
  HandshakeFlag,
  Info,
  MAXIMUM_PAYLOAD,
  OPTION_HEADER_LENGTH,
  Option,
  OptionReply,
  ProtocolError,
  TransmissionFlag,
} from './protocol.js';
import type { ReplyWriter } from './reply-writer.js';
import type { SocketReader } from './socket-reader.js';

/** What both sides agreed on. */
export interface Agreement {
  /** Reads are answered with structured replies. */
  readonly structuredReplies: boolean;
}

/** More data than any option that is understood here can need; the rest of it is not even kept. */
const MAXIMUM_OPTION_LENGTH = 64 * 1024;

/**
 * Negotiates with one client.
 *
 * @returns nothing when the client went away or aborted, as it may.
 * @throws ProtocolError when the client breaks the protocol.
 */
export async function negotiate(
  reader: SocketReader,
  writer: ReplyWriter,
  exported: NbdExport,
): Promise<Agreement | undefined> {
  await writer.send(encodeGreeting(HandshakeFlag.FixedNewstyle | HandshakeFlag.NoZeroes));
  const clientFlags = Buffer.alloc(CLIENT_FLAGS_LENGTH);
  if (!(await takeWhole(reader, clientFlags, 'its flags'))) {
    return undefined;
  }
  return await new Negotiation(reader, writer, exported, readClientFlags(clientFlags)).run();
}

function readClientFlags(message: Buffer): number {
  const flags = message.readUInt32BE(0);
  if ((flags & ~(HandshakeFlag.FixedNewstyle | HandshakeFlag.NoZeroes)) !== 0) {
    throw new ProtocolError(`unknown client flags 0x${flags.toString(16)}`);
  }
  return flags;
}

/** Fills the target. @returns false when the client hung up before its first byte. */
async function takeWhole(reader: SocketReader, target: Buffer, what: string): Promise<boolean> {
  const filled = await reader.fill(target);
  if (filled > 0 && filled < target.length) {
    throw new ProtocolError(`the client hung up in the middle of ${what}`);
  }
  return filled === target.length;
}

class Negotiation {
  readonly #reader: SocketReader;
  readonly #writer: ReplyWriter;
  readonly #exported: NbdExport;
  readonly #clientFlags: number;
  #structuredReplies = false;

  constructor(reader: SocketReader, writer: ReplyWriter, exported: NbdExport, clientFlags: number) {
    this.#reader = reader;
    this.#writer = writer;
    this.#exported = exported;
    this.#clientFlags = clientFlags;
  }

  async run(): Promise<Agreement | undefined> {
    const header = Buffer.alloc(OPTION_HEADER_LENGTH);
    while (await takeWhole(this.#reader, header, 'an option')) {
      const { option, length } = decodeOptionHeader(header);
      if ((this.#clientFlags & HandshakeFlag.FixedNewstyle) === 0 && option !== Option.ExportName) {
        // Such a client does not understand the answer to any other option.
        throw new ProtocolError(`option ${option} from a client without fixed newstyle`);
      }
      const data = await this.#takeData(length);
      const outcome = data ? await this.#answer(option, data) : await this.#refuseLength(option);
      if (outcome === 'transmit') {
        return { structuredReplies: this.#structuredReplies };
      }
      if (outcome === 'abort') {
        return undefined;
      }
    }
    return undefined;
  }

  /** The data of an option; nothing when it is too long, in which case it is skipped. */
  async #takeData(length: number): Promise<Buffer | undefined> {
    const tooLong = length > MAXIMUM_OPTION_LENGTH;
    const data = Buffer.alloc(tooLong ? 0 : length);
    const came = tooLong ? await this.#reader.skip(length) : await this.#reader.fill(data);
    if (came < length) {
      throw new ProtocolError('the client hung up in the middle of an option');
    }
    return tooLong ? undefined : data;
  }

  async #refuseLength(option: number): Promise<'continue'> {
    if (option === Option.ExportName) {
      throw new ProtocolError('an export name that is too long');
    }
    return await this.#reply(option, OptionReply.ErrTooBig, 'the option is too long');
  }

  async #answer(option: number, data: Buffer): Promise<'continue' | 'transmit' | 'abort'> {
    switch (option) {
      case Option.ExportName:
        return await this.#answerExportName(data);
      case Option.Abort:
        await this.#reply(option, OptionReply.Ack);
        return 'abort';
      case Option.List:
        return await this.#answerList(data);
      case Option.Info:
      case Option.Go:
        return await this.#answerInfo(option, data);
      case Option.StructuredReply:
        return await this.#answerStructuredReply(data);
      default:
        return await this.#reply(option, OptionReply.ErrUnsup, 'this server does not know the option');
    }
  }

  async #answerExportName(name: Buffer): Promise<'transmit'> {
    if (!this.#isExported(name)) {
      // This option has no way to say no.
      throw new ProtocolError('the client asked for an export that does not exist');
    }
    const zeroes = (this.#clientFlags & HandshakeFlag.NoZeroes) === 0;
    await this.#writer.send(encodeExportNameAnswer(this.#exported.size, this.#transmissionFlags(), zeroes));
    return 'transmit';
  }

  async #answerList(data: Buffer): Promise<'continue'> {
    if (data.length !== 0) {
      return await this.#reply(Option.List, OptionReply.ErrInvalid, 'this option takes no data');
    }
    await this.#reply(Option.List, OptionReply.Server, encodeServer(this.#exported.name));
    return await this.#reply(Option.List, OptionReply.Ack);
  }

  async #answerStructuredReply(data: Buffer): Promise<'continue'> {
    if (data.length !== 0) {
      return await this.#reply(Option.StructuredReply, OptionReply.ErrInvalid, 'this option takes no data');
    }
    this.#structuredReplies = true;
    return await this.#reply(Option.StructuredReply, OptionReply.Ack);
  }

  async #answerInfo(option: Option.Info | Option.Go, data: Buffer): Promise<'continue' | 'transmit'> {
    const request = decodeInfoRequest(data);
    if (!request) {
      return await this.#reply(option, OptionReply.ErrInvalid, 'the lengths in the option contradict each other');
    }
    if (!this.#isExported(request.name)) {
      return await this.#reply(option, OptionReply.ErrUnknown, 'there is no export of this name');
    }
    const { name, size, preferredBlockSize } = this.#exported;
    await this.#reply(option, OptionReply.Info, encodeExportInfo(size, this.#transmissionFlags()));
    // Clients ignore what they did not ask for, except that nobody needs to hear back the name it just said.
    await this.#reply(option, OptionReply.Info, encodeBlockSizeInfo(1, preferredBlockSize, MAXIMUM_PAYLOAD));
    if (request.wanted.includes(Info.Name)) {
      await this.#reply(option, OptionReply.Info, encodeNameInfo(name));
    }
    await this.#reply(option, OptionReply.Ack);
    return option === Option.Go ? 'transmit' : 'continue';
  }

  /** Names are compared as bytes: what is no UTF-8 equals no name. */
  #isExported(name: Buffer): boolean {
    return name.length === 0 || name.equals(Buffer.from(this.#exported.name));
  }

  #transmissionFlags(): number {
    // Every connection uses the same export object and the server keeps nothing back itself, so what
    // `flush` and durable writes promise holds across connections.
    let flags =
      TransmissionFlag.HasFlags | TransmissionFlag.SendFlush | TransmissionFlag.SendFua | TransmissionFlag.CanMultiConn;
    flags |= this.#exported.readOnly
      ? TransmissionFlag.ReadOnly
      : TransmissionFlag.SendWriteZeroes | TransmissionFlag.SendTrim;
    if (this.#structuredReplies) {
      flags |= TransmissionFlag.SendDf;
    }
    return flags;
  }

  async #reply(option: number, type: OptionReply, data?: Buffer | string): Promise<'continue'> {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    await this.#writer.send(encodeOptionReply(option, type, bytes));
    return 'continue';
  }
}
