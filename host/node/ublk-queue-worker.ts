/**
 * The thread of a further queue of a ublk device: its own ring and its own instance of the core, on the memory that the
 * first thread (ublk-worker.ts) has opened the image in. As that one it sits in its ring from its first moment to its last.
 */
import { fstatSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, type TransferListItem, workerData } from 'node:worker_threads';
import { requireAddon, TurnMode } from './addon.js';
import { CoreSharing } from './core-sharing.js';
import { toRecord } from './error-record.js';
import { RequestMeter } from './request-meter.js';
import { RingEngine } from './ring-engine.js';
import { attachQueue } from './ublk-attach.js';
import type { UblkOrder, UblkQueueWorkerData, UblkReport } from './ublk-messages.js';

const data = workerData as UblkQueueWorkerData;
const { descriptor, writable, dataDescriptor, backing, parts } = data.shared;
const sharing = new CoreSharing(parts, data.queue);
const abandoned = new Int32Array(data.abandoned);
let helperCount = 0;

try {
  serve();
  report({ type: 'closed' });
} catch (error) {
  // The first thread must not wait for this queue.
  sharing.noteStopped(0);
  report({ type: 'failed', error: toRecord(error) });
}

function serve(): void {
  const engine = new RingEngine(
    {
      addon: requireAddon(),
      core: data.core,
      sharing,
      descriptor,
      writable,
      // The core knows by now; these are for the one who opens the image.
      fileLength: 0,
      zeroBeyondEnd: false,
      guestCapacity: parts.depth,
      cacheSize: 0,
      dataFile:
        dataDescriptor === undefined ? undefined : { descriptor: dataDescriptor, length: sizeOf(dataDescriptor) },
      ignoresFlushes: data.ignoresFlushes,
      direct: data.direct,
      meter: new RequestMeter(data.meter, sharing.firstSlot + parts.depth),
      helper: {
        jobs: data.helperJobs,
        backing,
        start: (helperData) => report({ type: 'helper', data: helperData, number: ++helperCount }, [helperData.port]),
      },
    },
    {
      onControl: () => {
        if (isAbandoned()) engine.helperLost('The process ends');
        for (let order = nextOrder(); order !== undefined; order = nextOrder()) {
          if (order.type === 'helperLost' && order.number === helperCount) engine.helperLost(order.reason);
        }
      },
      onQueueStopped: (errno) => {
        sharing.noteStopped(errno);
        engine.wake(0);
      },
      onFailure: (error) =>
        report({ type: 'ioError', error: toRecord(error), missed: 0, broken: engine.trap !== undefined }),
    },
  );
  try {
    const device = attachQueue(engine.ring, data.attach, data.queue, sharing.firstSlot, data.device);
    report({ type: 'attached', wakeDescriptor: engine.ring.wakeDescriptor, device });
    // Also when its own requests are over: operations of others may be under way in this ring.
    while (!sharing.over && !isAbandoned()) engine.step(TurnMode.Wait);
    engine.endHelper();
    while (!engine.helperEnded && !isAbandoned()) engine.step(TurnMode.Wait);
  } finally {
    engine.close();
  }
}

function sizeOf(file: number): number {
  return fstatSync(file).size;
}

function nextOrder(): UblkOrder | undefined {
  if (parentPort === null) return undefined;
  return receiveMessageOnPort(parentPort)?.message as UblkOrder | undefined;
}

function report(message: UblkReport, transferList: TransferListItem[] = []): void {
  parentPort?.postMessage(message, transferList);
}

function isAbandoned(): boolean {
  return Atomics.load(abandoned, 0) !== 0;
}
