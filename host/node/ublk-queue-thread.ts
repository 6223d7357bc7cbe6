/** The main thread's side of the worker of a further queue. */
import { Worker } from 'node:worker_threads';
import { CorralError } from '../errors.js';
import type { Addon, Waker } from './addon.js';
import { fromRecord } from './error-record.js';
import { startHelperThread } from './helper-thread.js';
import { meterMemory } from './request-meter.js';
import type { UblkOrder, UblkQueueWorkerData, UblkReport } from './ublk-messages.js';

export class QueueThread {
  /** Rejects when the queue cannot be served. */
  readonly attached: Promise<void>;
  /** Nothing of the image is used any more, however that came. */
  readonly exited: Promise<void>;
  /** The queue's requests are counted in it. */
  readonly meter = meterMemory();
  private readonly worker: Worker;
  private waker: Waker | undefined;

  /** @param onLost the thread has failed */
  constructor(
    private readonly addon: Addon,
    data: Omit<UblkQueueWorkerData, 'meter'>,
    onIoError: (report: UblkReport & { type: 'ioError' }) => void,
    onLost: (error: CorralError) => void,
  ) {
    const { path } = data;
    const workerData: UblkQueueWorkerData = { ...data, meter: this.meter };
    this.worker = new Worker(new URL('../../bundle/workers/ublk-queue-worker.cjs', import.meta.url), { workerData });
    this.attached = new Promise((resolve, reject) => {
      const lose = (error: CorralError): void => {
        reject(error);
        onLost(error);
      };
      this.worker.on('message', (report: UblkReport) => {
        if (report.type === 'attached') {
          this.setWaker(report.wakeDescriptor);
          resolve();
        } else if (report.type === 'failed') lose(fromRecord(report.error));
        else if (report.type === 'ioError') onIoError(report);
        else if (report.type === 'helper') this.startHelper(report);
      });
      this.worker.on('error', (error) => lose(new CorralError('ERR_INTERNAL', { path, cause: error })));
      this.worker.on('exit', () =>
        reject(new CorralError('ERR_INTERNAL', { path, reason: 'The serving thread ended' })),
      );
    });
    this.exited = new Promise((resolve) => {
      this.worker.on('exit', () => {
        this.waker?.close();
        this.waker = undefined;
        resolve();
      });
    });
    this.attached.catch(() => {});
  }

  wake(): void {
    this.waker?.wake();
  }

  private startHelper({ data, number }: UblkReport & { type: 'helper' }): void {
    const tell = (reason: string): void => {
      const order: UblkOrder = { type: 'helperLost', number, reason };
      this.worker.postMessage(order);
      this.wake();
    };
    try {
      this.setWaker(data.wakeDescriptor);
      startHelperThread(data, tell);
    } catch (error) {
      tell((error as Error).message);
    }
  }

  private setWaker(descriptor: number): void {
    this.waker?.close();
    this.waker = undefined;
    this.waker = new this.addon.Waker(descriptor);
  }
}
