/** The messages of the handshake: bytes ⇄ fields, no I/O, no state. Every number on the wire is big-endian. */
import {
  INITIAL_MAGIC,
  Info,
  MAXIMUM_STRING_LENGTH,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  type OptionReply,
  ProtocolError,
} from './protocol.js';

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

/** What a client that asks for metadata contexts (`Option.ListMetaContext`, `Option.SetMetaContext`) wants. */
export interface MetaContextRequest {
  /** Of the export. */
  readonly name: Buffer;
  readonly queries: readonly Buffer[];
}

/** The data of these two options; nothing when its lengths contradict each other. */
export function decodeMetaContextRequest(data: Buffer): MetaContextRequest | undefined {
  const name = takeString(data, 0);
  const countAt = 4 + (name?.length ?? 0);
  if (name === undefined || data.length < countAt + 4) {
    return undefined;
  }
  const count = data.readUInt32BE(countAt);
  const queries: Buffer[] = [];
  let position = countAt + 4;
  // Each takes at least four bytes of the data, whatever the count says.
  while (queries.length < count) {
    const query = takeString(data, position);
    if (query === undefined) {
      return undefined;
    }
    queries.push(query);
    position += 4 + query.length;
  }
  return position === data.length ? { name, queries } : undefined;
}

/** A length and so many bytes; nothing when they are not all there. */
function takeString(data: Buffer, position: number): Buffer | undefined {
  if (data.length < position + 4) {
    return undefined;
  }
  const length = data.readUInt32BE(position);
  if (length > MAXIMUM_STRING_LENGTH || length > data.length - position - 4) {
    return undefined;
  }
  return data.subarray(position + 4, position + 4 + length);
}

/** The data of `OptionReply.MetaContext`. */
export function encodeMetaContext(id: number, name: string): Buffer {
  const bytes = Buffer.from(name);
  const data = Buffer.alloc(4 + bytes.length);
  data.writeUInt32BE(id, 0);
  data.set(bytes, 4);
  return data;
}
