/**
 * The NBD protocol's numbers and messages: bytes ⇄ fields, no I/O, no state.
 *
 * Names are those of the protocol document (doc/proto.md of NetworkBlockDevice/nbd) without the prefix `NBD_`.
 * Every number on the wire is big-endian.
 */

/** "NBDMAGIC", the first eight bytes a server sends. */
export const INITIAL_MAGIC = 0x4e42444d41474943n;
/** "IHAVEOPT", the second eight bytes, and the start of every option a client sends. */
export const OPTION_MAGIC = 0x49484156454f5054n;
/** The start of every answer to an option. */
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
/** The start of every request. */
export const REQUEST_MAGIC = 0x25609513;
/** The start of a simple reply. */
export const SIMPLE_REPLY_MAGIC = 0x67446698;
/** The start of every chunk of a structured reply. */
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

/** Bytes of a client's flags, the first thing it sends. */
export const CLIENT_FLAGS_LENGTH = 4;
/** Bytes in front of an option's data. */
export const OPTION_HEADER_LENGTH = 16;
/** Bytes of a request, before the data of a write. */
export const REQUEST_LENGTH = 28;
/** Bytes of a simple reply, before the data of a read. */
export const SIMPLE_REPLY_LENGTH = 16;
/** Bytes in front of the data of a structured reply to a read: the chunk's header and the offset. */
export const OFFSET_DATA_HEADER_LENGTH = 28;

/** Longest string the protocol allows (names, messages), in bytes. */
export const MAXIMUM_STRING_LENGTH = 4096;
/** The longest read or write that is served: what the protocol tells every client it may rely on. */
export const MAXIMUM_PAYLOAD = 32 * 1024 * 1024;

/** What the server says of itself before anything else, and what a client answers (the same two bits). */
export enum HandshakeFlag {
  FixedNewstyle = 1,
  NoZeroes = 2,
}

/** What an export can do; sent when an export is chosen. */
export enum TransmissionFlag {
  HasFlags = 1 << 0,
  ReadOnly = 1 << 1,
  SendFlush = 1 << 2,
  SendFua = 1 << 3,
  SendTrim = 1 << 5,
  SendWriteZeroes = 1 << 6,
  SendDf = 1 << 7,
  CanMultiConn = 1 << 8,
}

/** What a client may ask for during the handshake; the others are answered with `OptionReply.ErrUnsup`. */
export enum Option {
  ExportName = 1,
  Abort = 2,
  List = 3,
  Info = 6,
  Go = 7,
  StructuredReply = 8,
}

/** How an option is answered; errors have the highest bit. */
export enum OptionReply {
  Ack = 1,
  Server = 2,
  Info = 3,
  ErrUnsup = 0x80000001,
  ErrInvalid = 0x80000003,
  ErrUnknown = 0x80000006,
  ErrTooBig = 0x80000009,
}

/** Facts about an export inside an `OptionReply.Info`. */
export enum Info {
  Export = 0,
  Name = 1,
  BlockSize = 3,
}

/** What a client may ask for once an export is chosen. */
export enum Command {
  Read = 0,
  Write = 1,
  Disc = 2,
  Flush = 3,
  Trim = 4,
  WriteZeroes = 6,
}

/** Bits of a request. */
export enum CommandFlag {
  /** The write is durable before it is answered. */
  Fua = 1 << 0,
  /** Zeroes: allocate them, leave no hole. */
  NoHole = 1 << 1,
  /** The data of a read comes in one piece. */
  Df = 1 << 2,
}

/** Bits of a structured reply's chunk. */
export enum ReplyFlag {
  Done = 1,
}

/** What a structured reply's chunk carries. */
export enum ReplyType {
  None = 0,
  OffsetData = 1,
  Error = 0x8001,
}

/** The error numbers that may cross the wire; they are the protocol's own, whatever this machine's are. */
export enum ErrorValue {
  None = 0,
  Perm = 1,
  Io = 5,
  Inval = 22,
  Nospc = 28,
  Overflow = 75,
  Shutdown = 108,
}

/** A client that broke the protocol in a way that leaves no next message to look for: its connection is closed. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

/** A request as it came, before anything but its magic was looked at. */
export interface RequestHeader {
  readonly flags: number;
  readonly command: number;
  /** Eight bytes that the reply repeats; they mean nothing here. */
  readonly cookie: Uint8Array;
  /** Bytes from the start of the export. Beyond 2^53 it is rounded, which is far outside any export either way. */
  readonly offset: number;
  /** Bytes, up to 2^32-1. */
  readonly length: number;
}

/** An option as it came, without its data. */
export interface OptionHeader {
  readonly option: number;
  /** Bytes of data that follow. */
  readonly length: number;
}

/** What a client that asks about an export (`Option.Info`, `Option.Go`) wants. */
export interface InfoRequest {
  readonly name: Buffer;
  readonly wanted: readonly number[];
}

/** The server's first words. */
export function encodeGreeting(flags: number): Buffer {
  const message = Buffer.alloc(18);
  message.writeBigUInt64BE(INITIAL_MAGIC, 0);
  message.writeBigUInt64BE(OPTION_MAGIC, 8);
  message.writeUInt16BE(flags, 16);
  return message;
}

/** @throws ProtocolError when this is no option. */
export function decodeOptionHeader(message: Buffer): OptionHeader {
  if (message.readBigUInt64BE(0) !== OPTION_MAGIC) {
    throw new ProtocolError('what should be an option does not begin with its magic number');
  }
  return { option: message.readUInt32BE(8), length: message.readUInt32BE(12) };
}

/** The data of `Option.Info` and `Option.Go`; nothing when its lengths contradict each other. */
export function decodeInfoRequest(data: Buffer): InfoRequest | undefined {
  if (data.length < 6) {
    return undefined;
  }
  const nameLength = data.readUInt32BE(0);
  if (nameLength > data.length - 6 || nameLength > MAXIMUM_STRING_LENGTH) {
    return undefined;
  }
  const count = data.readUInt16BE(4 + nameLength);
  const list = 6 + nameLength;
  if (list + 2 * count !== data.length) {
    return undefined;
  }
  const wanted = Array.from({ length: count }, (_, index) => data.readUInt16BE(list + 2 * index));
  return { name: data.subarray(4, 4 + nameLength), wanted };
}

/** An answer to an option. */
export function encodeOptionReply(option: number, type: OptionReply, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const message = Buffer.alloc(20 + data.length);
  message.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  message.writeUInt32BE(option, 8);
  message.writeUInt32BE(type, 12);
  message.writeUInt32BE(data.length, 16);
  message.set(data, 20);
  return message;
}

/** The data of `OptionReply.Server`: one line of the list of exports. */
export function encodeServer(name: string): Buffer {
  const bytes = Buffer.from(name);
  const data = Buffer.alloc(4 + bytes.length);
  data.writeUInt32BE(bytes.length, 0);
  data.set(bytes, 4);
  return data;
}

/** The data of `OptionReply.Info` with the size and the abilities of an export. */
export function encodeExportInfo(size: number, flags: number): Buffer {
  const data = Buffer.alloc(12);
  data.writeUInt16BE(Info.Export, 0);
  data.writeBigUInt64BE(BigInt(size), 2);
  data.writeUInt16BE(flags, 10);
  return data;
}

/** The data of `OptionReply.Info` with the name of an export. */
export function encodeNameInfo(name: string): Buffer {
  const bytes = Buffer.from(name);
  const data = Buffer.alloc(2 + bytes.length);
  data.writeUInt16BE(Info.Name, 0);
  data.set(bytes, 2);
  return data;
}

/** The data of `OptionReply.Info` with the sizes that requests should have, in bytes. */
export function encodeBlockSizeInfo(minimum: number, preferred: number, maximum: number): Buffer {
  const data = Buffer.alloc(14);
  data.writeUInt16BE(Info.BlockSize, 0);
  data.writeUInt32BE(minimum, 2);
  data.writeUInt32BE(preferred, 6);
  data.writeUInt32BE(maximum, 10);
  return data;
}

/** The answer to `Option.ExportName`: no option reply but a format of its own. */
export function encodeExportNameAnswer(size: number, flags: number, zeroes: boolean): Buffer {
  const message = Buffer.alloc(zeroes ? 134 : 10);
  message.writeBigUInt64BE(BigInt(size), 0);
  message.writeUInt16BE(flags, 8);
  return message;
}

/** @throws ProtocolError when this is no request. */
export function decodeRequest(message: Buffer): RequestHeader {
  if (message.readUInt32BE(0) !== REQUEST_MAGIC) {
    throw new ProtocolError('what should be a request does not begin with its magic number');
  }
  return {
    flags: message.readUInt16BE(4),
    command: message.readUInt16BE(6),
    cookie: Uint8Array.prototype.slice.call(message, 8, 16),
    offset: message.readUInt32BE(16) * 0x1_0000_0000 + message.readUInt32BE(20),
    length: message.readUInt32BE(24),
  };
}

/** Puts a simple reply's header at `at`; the data of a read follows it. */
export function encodeSimpleReply(message: Buffer, at: number, cookie: Uint8Array, error: ErrorValue): void {
  message.writeUInt32BE(SIMPLE_REPLY_MAGIC, at);
  message.writeUInt32BE(error, at + 4);
  message.set(cookie, at + 8);
}

/** Puts the header of a chunk with all the data of a read at `at`; `length` bytes of data follow it. */
export function encodeOffsetData(
  message: Buffer,
  at: number,
  cookie: Uint8Array,
  range: { offset: number; length: number },
): void {
  encodeChunkHeader(message, at, cookie, ReplyType.OffsetData, 8 + range.length);
  message.writeBigUInt64BE(BigInt(range.offset), at + 20);
}

/** A structured reply that says nothing but "done". */
export function encodeNone(cookie: Uint8Array): Buffer {
  const message = Buffer.alloc(20);
  encodeChunkHeader(message, 0, cookie, ReplyType.None, 0);
  return message;
}

/** A structured reply that says why a request failed. The text is cut to what the protocol allows. */
export function encodeError(cookie: Uint8Array, error: ErrorValue, text: string): Buffer {
  const bytes = cutText(text);
  const message = Buffer.alloc(26 + bytes.length);
  encodeChunkHeader(message, 0, cookie, ReplyType.Error, 6 + bytes.length);
  message.writeUInt32BE(error, 20);
  message.writeUInt16BE(bytes.length, 24);
  message.set(bytes, 26);
  return message;
}

/** As many whole characters as fit into the longest string; no NUL, which strings must not have. */
function cutText(text: string): Uint8Array {
  const bytes = new Uint8Array(MAXIMUM_STRING_LENGTH);
  const { written } = new TextEncoder().encodeInto(text.replaceAll('\0', ' '), bytes);
  return bytes.subarray(0, written);
}

/** Every reply here is one chunk, so each is the last of its reply. */
function encodeChunkHeader(message: Buffer, at: number, cookie: Uint8Array, type: ReplyType, length: number): void {
  message.writeUInt32BE(STRUCTURED_REPLY_MAGIC, at);
  message.writeUInt16BE(ReplyFlag.Done, at + 4);
  message.writeUInt16BE(type, at + 6);
  message.set(cookie, at + 8);
  message.writeUInt32BE(length, at + 16);
}
