/**
 * The NBD protocol's numbers. What is made of them is in `handshake-messages.ts` and `transmission-messages.ts`.
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
/** The start of every request once extended headers were agreed on. */
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
/** The start of every chunk of a reply then. */
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** Bytes of a client's flags, the first thing it sends. */
export const CLIENT_FLAGS_LENGTH = 4;
/** Bytes in front of an option's data. */
export const OPTION_HEADER_LENGTH = 16;
/** Bytes of a request, before the data of a write. */
export const REQUEST_LENGTH = 28;
/** The same with extended headers. */
export const EXTENDED_REQUEST_LENGTH = 32;
/** Bytes of a simple reply, before the data of a read. */
export const SIMPLE_REPLY_LENGTH = 16;
/** Bytes in front of what a structured reply's chunk carries. */
export const STRUCTURED_REPLY_LENGTH = 20;
/** The same with extended headers. */
export const EXTENDED_REPLY_LENGTH = 32;

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
  SendCache = 1 << 10,
  SendFastZero = 1 << 11,
}

/** What a client may ask for during the handshake; the others are answered with `OptionReply.ErrUnsup`. */
export enum Option {
  ExportName = 1,
  Abort = 2,
  List = 3,
  StartTls = 5,
  Info = 6,
  Go = 7,
  StructuredReply = 8,
  ListMetaContext = 9,
  SetMetaContext = 10,
  ExtendedHeaders = 11,
}

/** How an option is answered; errors have the highest bit. */
export enum OptionReply {
  Ack = 1,
  Server = 2,
  Info = 3,
  MetaContext = 4,
  ErrUnsup = 0x80000001,
  ErrPolicy = 0x80000002,
  ErrInvalid = 0x80000003,
  ErrTlsReqd = 0x80000005,
  ErrUnknown = 0x80000006,
  ErrTooBig = 0x80000009,
  ErrExtHeaderReqd = 0x8000000a,
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
  Cache = 5,
  WriteZeroes = 6,
  BlockStatus = 7,
}

/** Bits of a request. */
export enum CommandFlag {
  /** The write is durable before it is answered. */
  Fua = 1 << 0,
  /** Zeroes: allocate them, leave no hole. */
  NoHole = 1 << 1,
  /** The data of a read comes in one piece. */
  Df = 1 << 2,
  /** One stretch of each context is enough. */
  ReqOne = 1 << 3,
  /** Zeroes: only if that is faster than writing them. */
  FastZero = 1 << 4,
  /** Extended headers: the length is that of data which follow. */
  PayloadLen = 1 << 5,
}

/** Bits of a structured reply's chunk. */
export enum ReplyFlag {
  Done = 1,
}

/** What a structured reply's chunk carries. */
export enum ReplyType {
  None = 0,
  OffsetData = 1,
  BlockStatus = 5,
  /** With extended headers. */
  BlockStatusExt = 6,
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
  Notsup = 95,
  Shutdown = 108,
}

/** A client that broke the protocol in a way that leaves no next message to look for: its connection is closed. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}
