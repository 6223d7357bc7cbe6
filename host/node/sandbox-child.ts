/**
 * The program in the sandbox. It is handed over as text, because it may open no file. Everything is read and written in
 * turn: there is nobody else to wait for.
 */

import { readSync, writeSync } from 'node:fs';
import { portableCodec } from '../codec/portable-codec.js';
import { CorralError, type CorralErrorCode } from '../errors.js';
import { ReadOnlyFile } from '../read-only-file.js';
import type { Collector } from './sandbox-filesystem.js';
import { FRAME_HEAD, FrameKind, frameHead, LONGEST_READ, parseHead } from './sandbox-frames.js';
import { type Job, runJob } from './sandbox-job.js';

/** Descriptors that the parent has given. */
const INPUT = 0;
const OUTPUT = 1;
const IMAGE = 3;

/** What the job is about, beside the job itself. */
export interface ChildOrder {
  readonly job: Job;
  /** Bytes of the file. */
  readonly length: number;
  readonly zeroBeyondEnd: boolean;
  /** The file is open as descriptor 3; else the parent reads it. */
  readonly isOpen: boolean;
}

/** Hands everything over at once; the pipe makes this wait for a parent that is slower. */
const COLLECTOR: Collector = {
  entry: async (entry) => send(FrameKind.Entry, bytesOf(JSON.stringify(entry))),
  data: async (bytes) => send(FrameKind.Data, bytes),
};

async function main(): Promise<void> {
  send(FrameKind.Ready);
  const core = new WebAssembly.Module(receive(FrameKind.Core).payload);
  const order = JSON.parse(textOf(receive(FrameKind.Job).payload)) as ChildOrder;
  try {
    const file = order.isOpen ? new OpenFile(order) : new RemoteFile(order);
    const answer = await runJob(order.job, { file, core, codec: portableCodec, collector: COLLECTOR });
    send(FrameKind.Answer, bytesOf(JSON.stringify(answer)));
  } catch (error) {
    const code = error instanceof CorralError ? error.code : 'ERR_INTERNAL';
    const path = error instanceof CorralError ? error.details.path : undefined;
    const reason = error instanceof CorralError ? (error.details.reason ?? error.message) : String(error);
    send(FrameKind.Failure, bytesOf(JSON.stringify({ code, path, reason })));
  }
}

/** The file of the job. */
abstract class JobFile extends ReadOnlyFile {
  private readonly length: number;

  constructor({ length, zeroBeyondEnd }: ChildOrder) {
    super('The file can only be read here', zeroBeyondEnd);
    this.length = length;
  }

  async size(): Promise<number> {
    return this.length;
  }
}

class OpenFile extends JobFile {
  async read(offset: number, target: Uint8Array): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const count = readSync(IMAGE, target, done, target.length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    target.fill(0, done);
  }
}

/** A file that the parent reads. */
class RemoteFile extends JobFile {
  async read(offset: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const length = Math.min(target.length - done, LONGEST_READ);
      const place = new DataView(new ArrayBuffer(16));
      place.setFloat64(0, offset + done, true);
      place.setFloat64(8, length, true);
      send(FrameKind.Read, new Uint8Array(place.buffer));
      const { kind, payload } = receive(FrameKind.Bytes, FrameKind.ReadFailed);
      if (kind === FrameKind.ReadFailed) throw readError(payload);
      target.set(payload, done);
      done += length;
    }
  }
}

/** What the parent says of a read: it can be believed. */
function readError(payload: Uint8Array): CorralError {
  const { code, reason } = JSON.parse(textOf(payload)) as { code: CorralErrorCode; reason: string };
  return new CorralError(code, { reason });
}

function receive(...wanted: readonly FrameKind[]): { kind: FrameKind; payload: Uint8Array<ArrayBuffer> } {
  const { kind, length } = parseHead(readExactly(FRAME_HEAD));
  if (!wanted.includes(kind)) throw new Error(`a frame of kind ${kind}`);
  return { kind, payload: readExactly(length) };
}

function readExactly(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const count = readSync(INPUT, bytes, done, length - done, null);
    // Nobody is interested any more.
    if (count === 0) process.exit(1);
    done += count;
  }
  return bytes;
}

function send(kind: FrameKind, payload: Uint8Array = new Uint8Array(0)): void {
  writeAll(frameHead(kind, payload.length));
  writeAll(payload);
}

function writeAll(bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(OUTPUT, bytes, done, bytes.length - done);
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

// At the end: what runs at once needs the classes above.
void main();
