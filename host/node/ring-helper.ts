/**
 * The ring thread's side of its helper: a thread with an event loop, for what is more than file I/O.
 *
 * The thread is started by the first job, or to open what lies behind the image. Results come back in shared memory, a lane for each job at a time; jobs beyond
 * the lanes wait here. The ring thread is not to wait for anything but its ring, so reports are fetched when that is woken.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { CorralError } from '../errors.js';
import { fromRecord } from './error-record.js';
import type { HelperData, HelperJob, HelperOrder, HelperReport } from './helper-messages.js';

/** Lanes are made of whole pieces of this many bytes. */
const LANE_STEP = 65_536;

export interface RingHelperOptions {
  /** What the thread gets besides its port. */
  data: Omit<HelperData, 'port'>;
  /** Jobs at once. */
  lanes: number;
  /** Starts the thread, with `data.port` transferred. Called at most once. */
  start(data: HelperData): void;
  /**
   * A job ended: the bytes, valid during the call, or why there are none. Called from inside of `ask`, `takeReports` and
   * `lost`.
   */
  onAnswer(operation: number, bytes: Uint8Array | undefined, error: CorralError | undefined): void;
}

interface Lane {
  readonly number: number;
  memory: Uint8Array;
  /** Operation whose job is under way. */
  operation: number;
  length: number;
}

interface Asked {
  operation: number;
  job: HelperJob;
}

export class RingHelper {
  private port: MessagePort | undefined;
  private readonly lanes: Lane[];
  private readonly idle: Lane[];
  private readonly waiting: Asked[] = [];
  private lostReason: string | undefined;
  private ending = false;
  private backingState: { error: CorralError | undefined } | undefined;
  private commitState: { error: CorralError | undefined } | undefined;

  constructor(private readonly options: RingHelperOptions) {
    const memory = new Uint8Array(0);
    this.lanes = Array.from({ length: options.lanes }, (_, number) => ({ number, memory, operation: -1, length: 0 }));
    this.idle = [...this.lanes];
  }

  /** No thread, or one that is done with the image. */
  get ended(): boolean {
    return this.port === undefined;
  }

  /** How opening what lies behind the image went; undefined before that is known. */
  get backing(): { error: CorralError | undefined } | undefined {
    return this.backingState;
  }

  /** How the commit that was asked for last went; undefined before that is known. */
  get committed(): { error: CorralError | undefined } | undefined {
    return this.commitState;
  }

  /** Asks for what the image holds to be written into what lies behind it. No job may be under way until that has ended. */
  commit(bytesPerSecond: number): void {
    const lost = this.lostReason;
    this.commitState = lost === undefined ? undefined : { error: new CorralError('ERR_INTERNAL', { reason: lost }) };
    this.send({ type: 'commit', bytesPerSecond });
  }

  /** Starts the thread, which opens what `data` says. */
  start(): void {
    this.port ??= this.startThread();
  }

  /** Hands a job over; its end is an answer for `operation`. */
  ask(operation: number, job: HelperJob): void {
    this.waiting.push({ operation, job });
    if (this.lostReason !== undefined) this.failAll(this.lostReason);
    else this.handOver();
  }

  /** Takes what the helper has reported. To be called when the ring was woken. */
  takeReports(): void {
    while (this.port !== undefined) {
      const received = receiveMessageOnPort(this.port);
      if (received === undefined) return;
      this.take(received.message as HelperReport);
    }
  }

  /** Asks the thread to end; `ended` tells when it has. Jobs that it was not given yet are forgotten. */
  close(): void {
    this.ending = true;
    this.waiting.length = 0;
    this.send({ type: 'close' });
  }

  /** The thread has ended by itself: all jobs fail, now and later. */
  lost(reason: string): void {
    this.dropPort();
    if (this.ending) return;
    this.lostReason = reason;
    this.backingState ??= { error: new CorralError('ERR_INTERNAL', { reason }) };
    this.commitState ??= { error: new CorralError('ERR_INTERNAL', { reason }) };
    this.failAll(reason);
  }

  /** Forgets the thread, which ends by itself when it notices. */
  dropPort(): void {
    this.port?.close();
    this.port = undefined;
  }

  private take(report: HelperReport): void {
    if (report.type === 'closed') {
      this.dropPort();
      return;
    }
    if (report.type === 'backing') {
      this.backingState = { error: report.error && fromRecord(report.error) };
      return;
    }
    if (report.type === 'committed') {
      this.commitState = { error: report.error && fromRecord(report.error) };
      return;
    }
    const lane = this.lanes[report.lane];
    const operation = release(lane);
    if (report.type === 'done') this.options.onAnswer(operation, lane.memory.subarray(0, lane.length), undefined);
    else this.options.onAnswer(operation, undefined, fromRecord(report.error));
    this.idle.push(lane);
    this.handOver();
  }

  private handOver(): void {
    while (this.waiting.length > 0 && this.idle.length > 0) {
      const { operation, job } = this.waiting.shift() as Asked;
      const lane = this.idle.pop() as Lane;
      this.start();
      lane.operation = operation;
      lane.length = job.length;
      if (lane.memory.length < job.length) this.enlarge(lane);
      this.send({ type: 'job', lane: lane.number, job });
    }
  }

  /** Lanes grow to the longest job that they have had; requests and clusters bound these. */
  private enlarge(lane: Lane): void {
    const memory = new SharedArrayBuffer(Math.ceil(lane.length / LANE_STEP) * LANE_STEP);
    lane.memory = new Uint8Array(memory);
    this.send({ type: 'lane', lane: lane.number, memory });
  }

  private startThread(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    this.options.start({ ...this.options.data, port: port2 });
    return port1;
  }

  private send(order: HelperOrder): void {
    this.port?.postMessage(order);
  }

  private failAll(reason: string): void {
    const busy = this.lanes.filter(({ operation }) => operation >= 0).map(release);
    const operations = [...busy, ...this.waiting.splice(0).map(({ operation }) => operation)];
    for (const operation of operations) {
      this.options.onAnswer(operation, undefined, new CorralError('ERR_INTERNAL', { reason }));
    }
  }
}

/** The operation that the lane was for. */
function release(lane: Lane): number {
  const { operation } = lane;
  lane.operation = -1;
  return operation;
}
