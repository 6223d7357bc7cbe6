/** The main thread's side of the worker that serves a ublk device. */
import { Worker } from 'node:worker_threads';
import { CorralError } from '../errors.js';
import type { Addon, Waker } from './addon.js';
import { loadCore, loadSharedCore } from './core.js';
import type { DiskFacts } from './disk-facts.js';
import { fromRecord, toRecord } from './error-record.js';
import { startHelperThread } from './helper-thread.js';
import { type MeterReading, meterMemory, readMeter } from './request-meter.js';
import { type SharedImage, type UblkOrder, type UblkReport, type UblkWorkerData, WorkerGate } from './ublk-messages.js';
import { QueueThread } from './ublk-queue-thread.js';
import type { UblkVerb } from './ublk-verbs.js';

/** An error that the kernel gets; see the report of this name. */
export type IoErrorReport = UblkReport & { type: 'ioError' };

interface Call {
  resolve(result: unknown): void;
  reject(error: CorralError): void;
}

/** Threads that would hold the process. */
const living = new Set<ServingThread>();

function abandonAll(): void {
  for (const thread of living) thread.abandonLoop();
}

/** The thread of one device, its reports as promises. */
export class ServingThread {
  readonly opened: Promise<DiskFacts>;
  readonly attached: Promise<void>;
  /** Ends when the image is closed; rejects when the worker failed, at whatever point. */
  readonly ended: Promise<void>;
  /** Rejects as `ended` does, or when the worker ends; never fulfilled. */
  readonly failure: Promise<never>;
  private readonly worker: Worker;
  private readonly meter = meterMemory();
  private readonly abandoned = new Int32Array(new SharedArrayBuffer(4));
  private readonly gate = new Int32Array(new SharedArrayBuffer(4));
  private waker: Waker | undefined;
  private readonly calls = new Map<number, Call>();
  private lastCall = 0;
  private over = false;
  private shared: SharedImage | undefined;
  private attachOrder: (UblkOrder & { type: 'attach' }) | undefined;
  private readonly queues: QueueThread[] = [];

  constructor(
    private readonly addon: Addon,
    private readonly data: Omit<UblkWorkerData, 'core' | 'abandoned' | 'gate' | 'meter'>,
    private readonly onIoError: (report: IoErrorReport) => void,
  ) {
    const workerData: UblkWorkerData = {
      ...data,
      core: loadCore(),
      meter: this.meter,
      abandoned: this.abandoned.buffer as SharedArrayBuffer,
      gate: this.gate.buffer as SharedArrayBuffer,
    };
    this.worker = new Worker(new URL('../../bundle/workers/ublk-worker.cjs', import.meta.url), { workerData });
    if (living.size === 0) process.on('exit', abandonAll);
    living.add(this);

    this.ended = new Promise((resolve, reject) => {
      this.worker.on('message', (report: UblkReport) => {
        // Their rings hold the image's file, and with it its lock.
        if (report.type === 'closed') void this.queuesExited().then(() => resolve());
        else if (report.type === 'failed') void this.queuesExited().then(() => reject(fromRecord(report.error)));
        else if (report.type === 'helper') this.startHelper(report);
        else if (report.type === 'ioError') onIoError(report);
        else if (report.type === 'verbEnded') this.takeResult(report);
      });
      this.worker.on('error', (error) => reject(new CorralError('ERR_INTERNAL', { path: data.path, cause: error })));
      this.worker.on('exit', () => {
        // Without it there is nobody to tell the others when to end.
        this.abandonQueues();
        void this.queuesExited().then(() =>
          reject(new CorralError('ERR_INTERNAL', { reason: 'The serving thread ended', path: data.path })),
        );
      });
    });
    const refuseCalls = (): void => this.refuseCalls();
    this.ended.then(refuseCalls, refuseCalls);
    this.failure = this.ended.then(() => Promise.reject(new CorralError('ERR_CLOSED', { path: data.path })));
    this.opened = Promise.race([this.reportOf('opened').then((report) => this.takeOpened(report)), this.failure]);
    this.attached = Promise.race([this.reportOf('attached').then((report) => this.attachQueues(report)), this.failure]);
    for (const promise of [this.ended, this.failure, this.opened, this.attached]) promise.catch(() => {});
  }

  /** The image may be opened: until then the thread only starts. */
  begin(): void {
    this.pass(WorkerGate.Open);
  }

  private pass(gate: WorkerGate): void {
    Atomics.compareExchange(this.gate, 0, WorkerGate.Closed, gate);
    Atomics.notify(this.gate, 0);
  }

  order(order: UblkOrder): void {
    if (order.type === 'close') this.pass(WorkerGate.Leave);
    this.worker.postMessage(order);
    this.waker?.wake();
  }

  /** Serves the device: this thread its first queue, further ones the others. */
  attach(order: UblkOrder & { type: 'attach' }): void {
    this.attachOrder = order;
    this.order(order);
  }

  /** Carries out a verb beside the guest's requests. Rejects with its CorralError, or ERR_CLOSED after the end. */
  call(verb: UblkVerb): Promise<unknown> {
    if (this.over) return Promise.reject(this.closedError());
    const number = ++this.lastCall;
    return new Promise((resolve, reject) => {
      this.calls.set(number, { resolve, reject });
      this.order({ type: 'verb', number, verb });
    });
  }

  /** What has been counted of the kernel's requests up to now, also after the end. */
  readMeter(): MeterReading {
    return readMeter(this.meter, ...this.queues.map(({ meter }) => meter));
  }

  /** Nothing of the worker is needed any more. */
  release(): void {
    living.delete(this);
    if (living.size === 0) process.off('exit', abandonAll);
    this.waker?.close();
    this.waker = undefined;
  }

  private reportOf<Type extends UblkReport['type']>(type: Type): Promise<UblkReport & { type: Type }> {
    return new Promise((resolve) => {
      this.worker.on('message', (report: UblkReport) => {
        if (report.type === type) resolve(report as UblkReport & { type: Type });
      });
    });
  }

  private takeOpened(report: UblkReport & { type: 'opened' }): DiskFacts {
    this.setWaker(report.wakeDescriptor);
    this.shared = report.shared;
    return report.facts;
  }

  /** Here and not in the worker, which would not hear of its end. */
  private startHelper({ data, number }: UblkReport & { type: 'helper' }): void {
    const tell = (reason: string): void => this.order({ type: 'helperLost', number, reason });
    try {
      this.setWaker(data.wakeDescriptor);
      startHelperThread(data, tell);
    } catch (error) {
      tell((error as Error).message);
    }
  }

  private takeResult({ number, result, error }: UblkReport & { type: 'verbEnded' }): void {
    const call = this.calls.get(number);
    this.calls.delete(number);
    if (error === undefined) call?.resolve(result);
    else call?.reject(fromRecord(error));
  }

  private async queuesExited(): Promise<void> {
    await Promise.all(this.queues.map(({ exited }) => exited));
  }

  private abandonQueues(): void {
    Atomics.store(this.abandoned, 0, 1);
    for (const queue of this.queues) queue.wake();
  }

  /** The first queue has its thread: now the others. */
  private async attachQueues({ device }: UblkReport & { type: 'attached' }): Promise<void> {
    const { shared, data, attachOrder: attach } = this;
    for (let queue = 1; shared !== undefined && attach !== undefined && queue < data.queues; queue++) {
      const { path, helperJobs, ignoresFlushes, direct } = data;
      const abandoned = this.abandoned.buffer as SharedArrayBuffer;
      const core = loadSharedCore();
      const more = { path, queue, shared, attach, device, helperJobs, ignoresFlushes, direct, core, abandoned };
      this.queues.push(new QueueThread(this.addon, more, this.onIoError, (error) => this.loseQueue(error)));
    }
    await Promise.all(this.queues.map(({ attached }) => attached));
  }

  /** What the queue had in hand is not answered any more: nothing else may be, as if all were well. */
  private loseQueue(error: CorralError): void {
    this.order({ type: 'queueLost', error: toRecord(error) });
  }

  private refuseCalls(): void {
    this.over = true;
    for (const call of this.calls.values()) call.reject(this.closedError());
    this.calls.clear();
  }

  private closedError(): CorralError {
    return new CorralError('ERR_CLOSED', { path: this.data.path });
  }

  private setWaker(descriptor: number): void {
    this.waker?.close();
    this.waker = undefined;
    this.waker = new this.addon.Waker(descriptor);
  }

  /** The process ends: it must not wait for ever for a thread that sits in the ring. */
  abandonLoop(): void {
    this.pass(WorkerGate.Leave);
    this.abandonQueues();
    this.waker?.wake();
  }
}
