/**
 * The messages of the transmission: bytes ⇄ fields, no I/O, no state. Every number on the wire is big-endian.
 *
 * What a reply looks like depends on what was agreed on: simple replies, structured replies, or extended headers, which
 * are structured replies with longer fields. Every read and every failure is one chunk.
 */
import {
  type ErrorValue,
  EXTENDED_REPLY_LENGTH,
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REQUEST_LENGTH,
  EXTENDED_REQUEST_MAGIC,
  MAXIMUM_STRING_LENGTH,
  ProtocolError,
  REQUEST_LENGTH,
  REQUEST_MAGIC,
  ReplyFlag,
  ReplyType,
  SIMPLE_REPLY_LENGTH,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_LENGTH,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.js';

/** How requests and replies look on a connection. */
export type MessageFormat = 'simple' | 'structured' | 'extended';

/** A request as it came, before anything but its magic was looked at. */
export interface RequestHeader {
  readonly flags: number;
  readonly command: number;
  /** The two halves of a number that the reply repeats; it means nothing here. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Bytes from the start of the export. Beyond 2^53 it is rounded, which is far outside any export either way. */
  readonly offset: number;
  /** Bytes, up to 2^32-1; with extended headers as `offset`. */
  readonly length: number;
}

/** A stretch of an export, as a metadata context describes it. */
export interface StatusExtent {
  /** Bytes, at least 1. */
  readonly length: number;
  /** Bits or a number, as the context defines it. */
  readonly status: number;
}

/** What one context says of the range that a request asked about. */
export interface ContextStatus {
  /** The number that the handshake gave it. */
  readonly id: number;
  /** In order, from the request's offset on; at least one. */
  readonly extents: readonly StatusExtent[];
}

/** Bytes of a request, before the data of a write. */
export function requestLength(format: MessageFormat): number {
  return format === 'extended' ? EXTENDED_REQUEST_LENGTH : REQUEST_LENGTH;
}

/** @throws ProtocolError when this is no request. */
export function decodeRequest(message: Buffer, format: MessageFormat): RequestHeader {
  const isExtended = format === 'extended';
  if (message.readUInt32BE(0) !== (isExtended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC)) {
    throw new ProtocolError('what should be a request does not begin with its magic number');
  }
  return {
    flags: message.readUInt16BE(4),
    command: message.readUInt16BE(6),
    cookieHigh: message.readUInt32BE(8),
    cookieLow: message.readUInt32BE(12),
    offset: readLong(message, 16),
    length: isExtended ? readLong(message, 24) : message.readUInt32BE(24),
  };
}

function readLong(message: Buffer, at: number): number {
  return message.readUInt32BE(at) * 0x1_0000_0000 + message.readUInt32BE(at + 4);
}

/** Says that a request without data to answer is done. A structured reply would be longer and is not asked for. */
export function encodeSuccess(request: RequestHeader, format: MessageFormat): Buffer {
  if (format === 'extended') {
    const message = Buffer.allocUnsafe(EXTENDED_REPLY_LENGTH);
    putChunkHeader(message, 0, request, { format, type: ReplyType.None, length: 0 });
    return message;
  }
  const message = Buffer.allocUnsafe(SIMPLE_REPLY_LENGTH);
  putSimpleHeader(message, 0, request, 0);
  return message;
}

/** Says that a read of no bytes is done: a chunk of data must have data. */
export function encodeNothingRead(request: RequestHeader, format: MessageFormat): Buffer {
  if (format === 'simple') {
    return encodeSuccess(request, format);
  }
  const message = Buffer.allocUnsafe(chunkHeaderLength(format));
  putChunkHeader(message, 0, request, { format, type: ReplyType.None, length: 0 });
  return message;
}

/** Says why a request failed. The text is cut to what the protocol allows; simple replies have none. */
export function encodeFailure(request: RequestHeader, format: MessageFormat, error: ErrorValue, text: string): Buffer {
  if (format === 'simple') {
    const message = Buffer.allocUnsafe(SIMPLE_REPLY_LENGTH);
    putSimpleHeader(message, 0, request, error);
    return message;
  }
  const bytes = cutText(text);
  const header = chunkHeaderLength(format);
  const message = Buffer.allocUnsafe(header + 6 + bytes.length);
  putChunkHeader(message, 0, request, { format, type: ReplyType.Error, length: 6 + bytes.length });
  message.writeUInt32BE(error, header);
  message.writeUInt16BE(bytes.length, header + 4);
  message.set(bytes, header + 6);
  return message;
}

/** Bytes in front of the data of an answered read. */
export function dataHeaderLength(format: MessageFormat): number {
  return format === 'simple' ? SIMPLE_REPLY_LENGTH : chunkHeaderLength(format) + 8;
}

/** Puts what comes in front of all the data of a read at `at`; the data follow it. */
export function putDataHeader(message: Buffer, at: number, request: RequestHeader, format: MessageFormat): void {
  if (format === 'simple') {
    putSimpleHeader(message, at, request, 0);
    return;
  }
  putChunkHeader(message, at, request, { format, type: ReplyType.OffsetData, length: 8 + request.length });
  putLong(message, at + chunkHeaderLength(format), request.offset);
}

/** The answer to a question about metadata contexts: a chunk for each. */
export function encodeBlockStatus(
  request: RequestHeader,
  format: Exclude<MessageFormat, 'simple'>,
  contexts: readonly ContextStatus[],
): Buffer {
  const chunks = contexts.map((context, index) =>
    encodeContextStatus(request, format, context, index + 1 === contexts.length),
  );
  return Buffer.concat(chunks);
}

function encodeContextStatus(
  request: RequestHeader,
  format: Exclude<MessageFormat, 'simple'>,
  { id, extents }: ContextStatus,
  isLast: boolean,
): Buffer {
  const isExtended = format === 'extended';
  const header = chunkHeaderLength(format);
  const before = isExtended ? 8 : 4;
  const entry = isExtended ? 16 : 8;
  const type = isExtended ? ReplyType.BlockStatusExt : ReplyType.BlockStatus;
  const length = before + extents.length * entry;
  const message = Buffer.allocUnsafe(header + length);
  putChunkHeader(message, 0, request, { format, type, length, isLast });
  message.writeUInt32BE(id, header);
  if (isExtended) {
    message.writeUInt32BE(extents.length, header + 4);
  }
  let at = header + before;
  for (const extent of extents) {
    if (isExtended) {
      putLong(message, at, extent.length);
      putLong(message, at + 8, extent.status);
    } else {
      message.writeUInt32BE(extent.length, at);
      message.writeUInt32BE(extent.status, at + 4);
    }
    at += entry;
  }
  return message;
}

function putSimpleHeader(message: Buffer, at: number, request: RequestHeader, error: number): void {
  message.writeUInt32BE(SIMPLE_REPLY_MAGIC, at);
  message.writeUInt32BE(error, at + 4);
  message.writeUInt32BE(request.cookieHigh, at + 8);
  message.writeUInt32BE(request.cookieLow, at + 12);
}

interface Chunk {
  readonly format: MessageFormat;
  readonly type: ReplyType;
  /** Bytes that follow the header. */
  readonly length: number;
  /** Of its reply. Default: true. */
  readonly isLast?: boolean;
}

function chunkHeaderLength(format: MessageFormat): number {
  return format === 'extended' ? EXTENDED_REPLY_LENGTH : STRUCTURED_REPLY_LENGTH;
}

function putChunkHeader(message: Buffer, at: number, request: RequestHeader, chunk: Chunk): void {
  const isExtended = chunk.format === 'extended';
  message.writeUInt32BE(isExtended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC, at);
  message.writeUInt16BE(chunk.isLast === false ? 0 : ReplyFlag.Done, at + 4);
  message.writeUInt16BE(chunk.type, at + 6);
  message.writeUInt32BE(request.cookieHigh, at + 8);
  message.writeUInt32BE(request.cookieLow, at + 12);
  if (isExtended) {
    putLong(message, at + 16, request.offset);
    putLong(message, at + 24, chunk.length);
  } else {
    message.writeUInt32BE(chunk.length, at + 16);
  }
}

/** A number that is not negative; what was rounded when it came is not an offset of any export. */
function putLong(message: Buffer, at: number, value: number): void {
  message.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at);
  message.writeUInt32BE(value % 0x1_0000_0000, at + 4);
}

/** As many whole characters as fit into the longest string; no NUL, which strings must not have. */
function cutText(text: string): Uint8Array {
  const bytes = new Uint8Array(MAXIMUM_STRING_LENGTH);
  const { written } = new TextEncoder().encodeInto(text.replaceAll('\0', ' '), bytes);
  return bytes.subarray(0, written);
}
