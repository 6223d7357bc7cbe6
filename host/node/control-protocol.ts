/**
 * What the server of a device or of images is told over its control socket: a line of JSON a request, a line of JSON an answer, in order.
 *
 *   {"verb":"snapshot-create","name":"monday"}   →   {"result":null}  or  {"error":{"code":"ERR_…","message":"…"}}
 */
import type { CacheFacts } from '../cache-size.js';
import { CorralError, type CorralErrorCode } from '../errors.js';
import type { Snapshot } from '../snapshot-record.js';

/** Bytes of a line. */
export const LONGEST_LINE = 65536;

/** `image` says which of several images a server shall do it with; the first when it is left out. */
export type ControlRequest = ControlVerb & { readonly image?: string };

type ControlVerb =
  | { readonly verb: 'snapshot-list' }
  | { readonly verb: 'snapshot-create'; readonly name: string }
  /** The first snapshot that has both. */
  | { readonly verb: 'snapshot-delete'; readonly id: string; readonly name: string }
  /** Bytes; only longer. */
  | { readonly verb: 'resize'; readonly size: number }
  | { readonly verb: 'flush' }
  | { readonly verb: 'bitmap-list' }
  /** What `BitmapChange` says, flat. */
  | {
      readonly verb: 'bitmap';
      readonly action: string;
      readonly bitmap: string;
      readonly source?: string;
      readonly granularity?: number;
      readonly disabled?: boolean;
      readonly ranges?: object;
    }
  /** The answer comes when it is done; the guest waits until then. */
  | { readonly verb: 'commit'; readonly keep?: boolean; readonly bytesPerSecond?: number }
  /** Bytes; without them, it only tells. Answered with a `CacheAnswer`. */
  | { readonly verb: 'cache'; readonly size?: number }
  | { readonly verb: 'stat' }
  /** Milliseconds that requests under way may take; the answer comes when the device waits for another server. */
  | { readonly verb: 'hand-over'; readonly timeout?: number }
  /** Milliseconds that requests under way may take; the answer comes when the device is gone. */
  | { readonly verb: 'stop'; readonly timeout?: number };

/** The metadata cache of an image, in bytes, and what it has done since the image was opened with it. */
export interface CacheAnswer extends CacheFacts {
  readonly size: number;
  readonly hits: number;
  readonly misses: number;
  readonly evictions: number;
}

export interface ControlAnswer {
  readonly result?: unknown;
  readonly error?: { readonly code: CorralErrorCode; readonly message: string };
}

/** Which fields of a request are of which type; those with a question mark may be missing. */
const FIELDS: Readonly<Record<ControlRequest['verb'], Readonly<Record<string, string>>>> = {
  'snapshot-list': {},
  'snapshot-create': { name: 'string' },
  'snapshot-delete': { id: 'string', name: 'string' },
  resize: { size: 'number' },
  flush: {},
  'bitmap-list': {},
  bitmap: {
    action: 'string',
    bitmap: 'string',
    source: 'string?',
    granularity: 'number?',
    disabled: 'boolean?',
    ranges: 'object?',
  },
  commit: { keep: 'boolean?', bytesPerSecond: 'number?' },
  cache: { size: 'number?' },
  stat: {},
  'hand-over': { timeout: 'number?' },
  stop: { timeout: 'number?' },
};

/** @throws CorralError ERR_INVALID_ARGUMENT for what is no request, or one with more in it than is known */
export function parseRequest(line: string): ControlRequest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw invalid('The request is no JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('The request is no object');
  const { verb, image, ...rest } = value as Record<string, unknown>;
  if (typeof verb !== 'string' || !Object.hasOwn(FIELDS, verb)) throw invalid('The verb is unknown');
  if (image !== undefined && typeof image !== 'string') throw invalid("'image' is not of its type");
  const fields = FIELDS[verb as ControlRequest['verb']];
  for (const [name, type] of Object.entries(fields)) {
    const missing = rest[name] === undefined && type.endsWith('?');
    const found: string = typeof rest[name];
    if (!missing && found !== type.replace('?', '')) throw invalid(`'${name}' is not of its type`);
  }
  for (const name of Object.keys(rest)) if (!Object.hasOwn(fields, name)) throw invalid(`'${name}' is unknown`);
  return value as ControlRequest;
}

export function toAnswer(error: unknown): ControlAnswer {
  if (error instanceof CorralError) return { error: { code: error.code, message: error.message } };
  return { error: { code: 'ERR_INTERNAL', message: error instanceof Error ? error.message : String(error) } };
}

/** A snapshot in JSON; what is larger than its numbers is text. */
export function snapshotToJson(snapshot: Snapshot): Record<string, unknown> {
  const { id, name, date, nanoseconds, diskSize, vmStateSize, vmClock, icount } = snapshot;
  return {
    id,
    name,
    date: date.toISOString(),
    nanoseconds,
    diskSize,
    vmStateSize,
    vmClock: String(vmClock),
    icount: icount === undefined ? null : String(icount),
  };
}

/** What `snapshotToJson` made. */
export function snapshotFromJson(json: Record<string, unknown>): Snapshot {
  const { id, name, date, nanoseconds, diskSize, vmStateSize, vmClock, icount } = json as Record<string, string>;
  const bytes = new TextEncoder();
  return {
    id: String(id),
    name: String(name),
    idBytes: bytes.encode(String(id)),
    nameBytes: bytes.encode(String(name)),
    date: new Date(String(date)),
    nanoseconds: Number(nanoseconds),
    diskSize: Number(diskSize),
    vmStateSize: Number(vmStateSize),
    vmClock: BigInt(vmClock ?? 0),
    icount: icount === null || icount === undefined ? undefined : BigInt(icount),
  };
}

function invalid(reason: string): CorralError {
  return new CorralError('ERR_INVALID_ARGUMENT', { reason });
}
