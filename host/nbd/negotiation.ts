/** The handshake: fixed newstyle, from the greeting until an export is chosen. */
import type { NbdExport } from './export.js';
import {
  decodeInfoRequest,
  decodeMetaContextRequest,
  decodeOptionHeader,
  encodeBlockSizeInfo,
  encodeExportInfo,
  encodeExportNameAnswer,
  encodeGreeting,
  encodeMetaContext,
  encodeNameInfo,
  encodeOptionReply,
  encodeServer,
} from './handshake-messages.js';
import { type ChosenContext, chooseContexts, listContexts } from './meta-contexts.js';
import {
  CLIENT_FLAGS_LENGTH,
  HandshakeFlag,
  Info,
  MAXIMUM_PAYLOAD,
  OPTION_HEADER_LENGTH,
  Option,
  OptionReply,
  ProtocolError,
  TransmissionFlag,
} from './protocol.js';
import type { SocketReader } from './socket-reader.js';
import type { TlsCredentials } from './tls.js';
import type { MessageFormat } from './transmission-messages.js';
import type { Wire } from './wire.js';

/** What clients can have. */
export interface Offer {
  /** Of different names; the empty name means the first one. */
  readonly exports: readonly NbdExport[];
  /** Clients have to begin with TLS. */
  readonly tls: TlsCredentials | undefined;
}

/** What both sides agreed on. */
export interface Agreement {
  readonly exported: NbdExport;
  /** Bytes that the client was told of. */
  readonly size: number;
  readonly format: MessageFormat;
  /** What the client may ask about, in the order of the export. */
  readonly contexts: readonly ChosenContext[];
}

/** More data than any option that is understood here can need; the rest of it is not even kept. */
const MAXIMUM_OPTION_LENGTH = 64 * 1024;
/** What may be asked in clear text of a server that wants TLS. */
const CLEAR_OPTIONS: readonly number[] = [Option.StartTls, Option.Abort];

/**
 * Negotiates with one client.
 *
 * @returns nothing when the client went away or aborted, as it may.
 * @throws ProtocolError when the client breaks the protocol.
 */
export async function negotiate(wire: Wire, offer: Offer): Promise<Agreement | undefined> {
  await wire.writer.send(encodeGreeting(HandshakeFlag.FixedNewstyle | HandshakeFlag.NoZeroes));
  const clientFlags = Buffer.alloc(CLIENT_FLAGS_LENGTH);
  if (!(await takeWhole(wire.reader, clientFlags, 'its flags'))) {
    return undefined;
  }
  return await new Negotiation(wire, offer, readClientFlags(clientFlags)).run();
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

/** An option leads to another one, to an agreement, or to the end. */
type Outcome = 'continue' | 'abort' | Agreement;

class Negotiation {
  readonly #wire: Wire;
  readonly #offer: Offer;
  readonly #clientFlags: number;
  #format: MessageFormat = 'simple';
  /** What was chosen last, and for which export. */
  #chosen: { readonly exported: NbdExport; readonly contexts: readonly ChosenContext[] } | undefined;

  constructor(wire: Wire, offer: Offer, clientFlags: number) {
    this.#wire = wire;
    this.#offer = offer;
    this.#clientFlags = clientFlags;
  }

  async run(): Promise<Agreement | undefined> {
    const header = Buffer.alloc(OPTION_HEADER_LENGTH);
    while (await takeWhole(this.#wire.reader, header, 'an option')) {
      const { option, length } = decodeOptionHeader(header);
      if ((this.#clientFlags & HandshakeFlag.FixedNewstyle) === 0 && option !== Option.ExportName) {
        // Such a client does not understand the answer to any other option.
        throw new ProtocolError(`option ${option} from a client without fixed newstyle`);
      }
      const data = await this.#takeData(length);
      const outcome = data ? await this.#answer(option, data) : await this.#refuseLength(option);
      if (typeof outcome === 'object') {
        return outcome;
      }
      if (outcome === 'abort') {
        return undefined;
      }
    }
    return undefined;
  }

  /** The data of an option; nothing when it is too long, in which case it is skipped. */
  async #takeData(length: number): Promise<Buffer | undefined> {
    const { reader } = this.#wire;
    const tooLong = length > MAXIMUM_OPTION_LENGTH;
    const data = Buffer.alloc(tooLong ? 0 : length);
    const came = tooLong ? await reader.skip(length) : await reader.fill(data);
    if (came < length) {
      throw new ProtocolError('the client hung up in the middle of an option');
    }
    return tooLong ? undefined : data;
  }

  async #refuseLength(option: number): Promise<Outcome> {
    if (option === Option.ExportName) {
      throw new ProtocolError('an export name that is too long');
    }
    return await this.#reply(option, OptionReply.ErrTooBig, 'the option is too long');
  }

  async #answer(option: number, data: Buffer): Promise<Outcome> {
    if (this.#offer.tls && !this.#wire.secure && !CLEAR_OPTIONS.includes(option)) {
      return await this.#refuseClearText(option);
    }
    switch (option) {
      case Option.ExportName:
        return await this.#answerExportName(data);
      case Option.Abort:
        await this.#reply(option, OptionReply.Ack);
        return 'abort';
      case Option.List:
        return await this.#answerList(data);
      case Option.StartTls:
        return await this.#startTls(data);
      case Option.Info:
      case Option.Go:
        return await this.#answerInfo(option, data);
      case Option.StructuredReply:
      case Option.ExtendedHeaders:
        return await this.#answerFormat(option, data);
      case Option.ListMetaContext:
      case Option.SetMetaContext:
        return await this.#answerMetaContext(option, data);
      default:
        return await this.#reply(option, OptionReply.ErrUnsup, 'this server does not know the option');
    }
  }

  async #refuseClearText(option: number): Promise<Outcome> {
    if (option === Option.ExportName) {
      throw new ProtocolError('the client asked for an export without TLS');
    }
    return await this.#reply(option, OptionReply.ErrTlsReqd, 'this server wants TLS first');
  }

  async #startTls(data: Buffer): Promise<Outcome> {
    if (data.length !== 0) {
      return await this.#reply(Option.StartTls, OptionReply.ErrInvalid, 'this option takes no data');
    }
    if (!this.#offer.tls) {
      return await this.#reply(Option.StartTls, OptionReply.ErrPolicy, 'this server has no TLS');
    }
    if (this.#wire.secure) {
      return await this.#reply(Option.StartTls, OptionReply.ErrInvalid, 'TLS has begun already');
    }
    await this.#wire.startTls(this.#offer.tls, encodeOptionReply(Option.StartTls, OptionReply.Ack));
    return 'continue';
  }

  async #answerExportName(name: Buffer): Promise<Outcome> {
    const exported = this.#findExport(name);
    if (!exported) {
      // This option has no way to say no.
      throw new ProtocolError('the client asked for an export that does not exist');
    }
    const agreement = this.#agreeOn(exported);
    const zeroes = (this.#clientFlags & HandshakeFlag.NoZeroes) === 0;
    await this.#wire.writer.send(encodeExportNameAnswer(agreement.size, this.#transmissionFlags(exported), zeroes));
    return agreement;
  }

  async #answerList(data: Buffer): Promise<Outcome> {
    if (data.length !== 0) {
      return await this.#reply(Option.List, OptionReply.ErrInvalid, 'this option takes no data');
    }
    for (const { name } of this.#offer.exports) {
      await this.#reply(Option.List, OptionReply.Server, encodeServer(name));
    }
    return await this.#reply(Option.List, OptionReply.Ack);
  }

  async #answerFormat(option: Option.StructuredReply | Option.ExtendedHeaders, data: Buffer): Promise<Outcome> {
    if (data.length !== 0) {
      return await this.#reply(option, OptionReply.ErrInvalid, 'this option takes no data');
    }
    if (this.#format === 'extended') {
      // There is no way back to what is less.
      const type = option === Option.StructuredReply ? OptionReply.ErrExtHeaderReqd : OptionReply.ErrInvalid;
      return await this.#reply(option, type, 'extended headers were agreed on already');
    }
    this.#format = option === Option.StructuredReply ? 'structured' : 'extended';
    return await this.#reply(option, OptionReply.Ack);
  }

  async #answerMetaContext(option: Option.ListMetaContext | Option.SetMetaContext, data: Buffer): Promise<Outcome> {
    const isChoice = option === Option.SetMetaContext;
    if (isChoice) {
      // Whatever becomes of this, it is the last word.
      this.#chosen = undefined;
    }
    if (this.#format === 'simple') {
      return await this.#reply(option, OptionReply.ErrInvalid, 'structured replies have to be agreed on first');
    }
    const request = decodeMetaContextRequest(data);
    if (!request) {
      return await this.#reply(option, OptionReply.ErrInvalid, 'the lengths in the option contradict each other');
    }
    const exported = this.#findExport(request.name);
    if (!exported) {
      return await this.#reply(option, OptionReply.ErrUnknown, 'there is no export of this name');
    }
    if (isChoice) {
      const contexts = chooseContexts(exported, request.queries);
      this.#chosen = { exported, contexts };
      for (const { id, context } of contexts) {
        await this.#reply(option, OptionReply.MetaContext, encodeMetaContext(id, context.name));
      }
    } else {
      for (const { name } of listContexts(exported, request.queries)) {
        await this.#reply(option, OptionReply.MetaContext, encodeMetaContext(0, name));
      }
    }
    return await this.#reply(option, OptionReply.Ack);
  }

  async #answerInfo(option: Option.Info | Option.Go, data: Buffer): Promise<Outcome> {
    const request = decodeInfoRequest(data);
    if (!request) {
      return await this.#reply(option, OptionReply.ErrInvalid, 'the lengths in the option contradict each other');
    }
    const exported = this.#findExport(request.name);
    if (!exported) {
      return await this.#reply(option, OptionReply.ErrUnknown, 'there is no export of this name');
    }
    const agreement = this.#agreeOn(exported);
    const { name, preferredBlockSize } = exported;
    await this.#reply(option, OptionReply.Info, encodeExportInfo(agreement.size, this.#transmissionFlags(exported)));
    // Clients ignore what they did not ask for, except that nobody needs to hear back the name it just said.
    await this.#reply(option, OptionReply.Info, encodeBlockSizeInfo(1, preferredBlockSize, MAXIMUM_PAYLOAD));
    if (request.wanted.includes(Info.Name)) {
      await this.#reply(option, OptionReply.Info, encodeNameInfo(name));
    }
    await this.#reply(option, OptionReply.Ack);
    return option === Option.Go ? agreement : 'continue';
  }

  /** Names are compared as bytes: what is no UTF-8 equals no name. */
  #findExport(name: Buffer): NbdExport | undefined {
    const { exports } = this.#offer;
    return (
      exports.find((exported) => name.equals(Buffer.from(exported.name))) ??
      (name.length === 0 ? exports[0] : undefined)
    );
  }

  #agreeOn(exported: NbdExport): Agreement {
    // Contexts that were chosen for another export are none.
    const contexts = this.#chosen?.exported === exported ? this.#chosen.contexts : [];
    return { exported, size: exported.size, format: this.#format, contexts };
  }

  #transmissionFlags({ readOnly }: NbdExport): number {
    // Every connection uses the same export object and the server keeps nothing back itself, so what
    // `flush` and durable writes promise holds across connections.
    let flags =
      TransmissionFlag.HasFlags |
      TransmissionFlag.SendFlush |
      TransmissionFlag.SendFua |
      TransmissionFlag.CanMultiConn |
      TransmissionFlag.SendCache;
    flags |= readOnly
      ? TransmissionFlag.ReadOnly
      : TransmissionFlag.SendWriteZeroes | TransmissionFlag.SendTrim | TransmissionFlag.SendFastZero;
    if (this.#format !== 'simple') {
      flags |= TransmissionFlag.SendDf;
    }
    return flags;
  }

  async #reply(option: number, type: OptionReply, data?: Buffer | string): Promise<'continue'> {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    await this.#wire.writer.send(encodeOptionReply(option, type, bytes));
    return 'continue';
  }
}
