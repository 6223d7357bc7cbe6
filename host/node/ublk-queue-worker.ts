/**
 * The thread of a further queue of a ublk device: its own ring and its own instance of the core, on the memory that the
 * first thread (ublk-worker.ts) has opened the image in. As that one it sits in its ring from its first moment to its last.
 */
import { fstatSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { requireAddon, TurnMode } from './addon.js';
import { CoreSharing } from './core-sharing.js';
import { toRecord } from './error-record.js';
import { RequestMeter } from './request-meter.js';
import { RingEngine } from './ring-engine.js';
import { attachQueue } from './ublk-attach.js';
import type { UblkQueueWorkerData } from './ublk-messages.js';
import { WorkerPort } from './ublk-worker-port.js';

const data = workerData as UblkQueueWorkerData;
const { descriptor, writable, dataDescriptor, backing, parts } = data.shared;
const sharing = new CoreSharing(parts, data.queue);
const port = new WorkerPort(data.path, data.abandoned);

try {
  serve();
  port.report({ type: 'closed' });
} catch (error) {
  // The first thread must not wait for this queue.
  sharing.noteStopped(0);
  port.report({ type: 'failed', error: toRecord(error) });
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
        start: port.startHelper,
      },
    },
    {
      // Everything else is ordered from the first thread.
      onControl: () => port.takeOrders(engine, () => {}),
      onQueueStopped: (errno) => {
        sharing.noteStopped(errno);
        engine.wake(0);
      },
      onFailure: (error) => port.tell(error, engine.trap !== undefined),
    },
  );
  try {
    const device = attachQueue(engine.ring, data.attach, data.queue, sharing.firstSlot, data.device);
    port.report({ type: 'attached', wakeDescriptor: engine.ring.wakeDescriptor, device });
    // Also when its own requests are over: operations of others may be under way in this ring.
    while (!sharing.over && !port.isAbandoned) engine.step(TurnMode.Wait);
    engine.endHelper();
    while (!engine.helperEnded && !port.isAbandoned) engine.step(TurnMode.Wait);
  } finally {
    engine.close();
  }
}

function sizeOf(file: number): number {
  return fstatSync(file).size;
}
