/** The core on the ring, with the kernel's part of a ublk queue played by the test. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { RequestFlag, RequestKind } from '../../host/abi.js';
import type { CorralError } from '../../host/errors.js';
import type { ImageFacts } from '../../host/image-facts.js';
import { requireAddon, TurnMode } from '../../host/node/addon.js';
import { loadCore } from '../../host/node/core.js';
import { RingEngine } from '../../host/node/ring-engine.js';
import type { HelperOptions } from '../../host/node/ring-engine-options.js';

/** Tags of the queue. */
export const DEPTH = 8;
/** Bytes of the largest request. */
export const STRIDE = 131_072;
export const [READ, WRITE, FLUSH, DISCARD, WRITE_ZEROES] = [0, 1, 2, 3, 5];
export const EIO = -5;
const SECTOR = 512;
const UNANSWERED = 12_345;

export interface ServedOptions {
  writable?: boolean;
  helper?: HelperOptions;
  /** Past the page cache. */
  direct?: boolean;
  /** Path of the external data file. */
  dataFile?: string;
  /** The helper is lost, for this reason, while the image is being opened. */
  lostOnOpening?: string;
}

/** An engine with a queue whose kernel is the test. */
export class Served {
  readonly engine: RingEngine;
  readonly facts: ImageFacts;
  readonly buffers = new Uint8Array(new ArrayBuffer(DEPTH * STRIDE));
  readonly answers = new Int32Array(DEPTH).fill(UNANSWERED);
  stopped: number | undefined;
  /** Why requests were answered with an error. */
  readonly failures: CorralError[] = [];
  private readonly descriptor: number;
  private readonly dataDescriptor: number | undefined;
  private readonly descriptors = new DataView(new ArrayBuffer(DEPTH * 24));
  private ended = false;

  constructor(path: string, { writable = true, helper, direct = false, dataFile, lostOnOpening }: ServedOptions = {}) {
    const flags = (writable ? constants.O_RDWR : constants.O_RDONLY) | (direct ? constants.O_DIRECT : 0);
    this.descriptor = openSync(path, flags);
    this.dataDescriptor = dataFile === undefined ? undefined : openSync(dataFile, flags);
    this.engine = new RingEngine(
      {
        addon: requireAddon(),
        core: loadCore(),
        descriptor: this.descriptor,
        writable,
        fileLength: fstatSync(this.descriptor).size,
        zeroBeyondEnd: true,
        guestCapacity: DEPTH,
        cacheSize: 1 << 20,
        direct,
        helper,
        dataFile: this.dataDescriptor === undefined ? undefined : sizedDescriptor(this.dataDescriptor),
      },
      {
        onQueueStopped: (errno) => {
          this.stopped = errno;
        },
        onControl: () => {
          if (lostOnOpening !== undefined) this.engine.helperLost(lostOnOpening);
        },
        onFailure: (error) => {
          this.failures.push(error);
        },
      },
    );
    if (lostOnOpening !== undefined) this.engine.ring.wake();
    try {
      this.facts = this.engine.open(writable ? RequestFlag.Writable : 0);
    } catch (error) {
      this.end();
      throw error;
    }
    this.engine.ring.setGuestBuffers({
      buffer: this.buffers.buffer,
      stride: STRIDE,
      lengths: new Int32Array(DEPTH),
    });
    this.engine.ring.pretendQueue({
      deviceId: 0,
      depth: DEPTH,
      maxIoBytes: STRIDE,
      deviceSize: this.facts.virtualSize,
      descriptors: this.descriptors.buffer as ArrayBuffer,
      answers: this.answers,
    });
  }

  /** The kernel's request arrives; it is answered by later steps. */
  arrive(tag: number, operation: number, offset: number, length: number): void {
    this.answers[tag] = UNANSWERED;
    this.descriptors.setUint32(tag * 24, operation, true);
    this.descriptors.setUint32(tag * 24 + 4, length / SECTOR, true);
    this.descriptors.setBigUint64(tag * 24 + 8, BigInt(offset / SECTOR), true);
    this.engine.ring.pretendFetched(tag, 0);
  }

  /** Steps until these tags are answered. */
  answersOf(...tags: number[]): number[] {
    this.stepUntil(() => tags.every((tag) => this.isAnswered(tag)));
    return tags.map((tag) => this.answers[tag]);
  }

  isAnswered(tag: number): boolean {
    return this.answers[tag] !== UNANSWERED;
  }

  stepUntil(condition: () => boolean): void {
    const deadline = performance.now() + 20_000;
    while (!condition()) {
      if (performance.now() > deadline) throw new Error('the queue is stuck');
      this.engine.step(TurnMode.Poll);
    }
  }

  /** Reads a stretch of the disk with all tags. */
  readAll(offset: number, length: number): Uint8Array {
    const result = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const tags: number[] = [];
      for (let at = done; at < length && tags.length < DEPTH; at += STRIDE) {
        this.arrive(tags.length, READ, offset + at, Math.min(STRIDE, length - at));
        tags.push(tags.length);
      }
      for (const answer of this.answersOf(...tags)) {
        if (answer <= 0) throw new Error(`a read is answered with ${answer}: ${this.failures.at(-1)?.message}`);
      }
      for (const tag of tags) {
        const count = Math.min(STRIDE, length - done);
        result.set(this.buffer(tag, count), done);
        done += count;
      }
    }
    return result;
  }

  write(offset: number, bytes: Uint8Array): number {
    this.buffer(0, bytes.length).set(bytes);
    this.arrive(0, WRITE, offset, bytes.length);
    return this.answersOf(0)[0];
  }

  buffer(tag: number, length: number): Uint8Array {
    return this.buffers.subarray(tag * STRIDE, tag * STRIDE + length);
  }

  close(): void {
    this.engine.control(RequestKind.Close, 0, () => undefined);
    this.engine.endHelper();
    this.stepUntil(() => this.engine.helperEnded);
    this.end();
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.engine.close();
    closeSync(this.descriptor);
    if (this.dataDescriptor !== undefined) closeSync(this.dataDescriptor);
  }
}

function sizedDescriptor(descriptor: number): { descriptor: number; length: number } {
  return { descriptor, length: fstatSync(descriptor).size };
}
