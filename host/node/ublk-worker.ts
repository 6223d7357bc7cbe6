/**
 * The thread that serves one ublk device. It owns the image file, the core and the ring, and sits in the ring's turns
 * from its first moment to its last: the event loop never runs, so orders are fetched by hand when the ring is woken.
 */
import { writeSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { RequestFlag, RequestKind } from '../abi.js';
import { CorralError } from '../errors.js';
import { isSystemError, requireAddon, TurnMode } from './addon.js';
import { systemErrorOf } from './errno.js';
import { NodeFile } from './node-file.js';
import { RingEngine } from './ring-engine.js';
import { toRecord, type UblkOrder, type UblkReport, type UblkWorkerData } from './ublk-messages.js';

const data = workerData as UblkWorkerData;
const MAXIMUM_FAILURES_TOLD = 10;
let failuresTold = 0;
const abandoned = new Int32Array(data.abandoned);

try {
  const file = await NodeFile.open(data.path, { write: !data.readOnly });
  try {
    serve(file, await file.size());
  } finally {
    await file.close();
  }
  report({ type: 'closed' });
} catch (error) {
  report({ type: 'failed', error: toRecord(inWords(error)) });
}

/** From the open image to the closed one. */
function serve(file: NodeFile, fileLength: number): void {
  let order: UblkOrder | undefined;
  let woken = false;
  let stopped: { errno: number } | undefined;
  let failure: unknown;
  const engine = new RingEngine(
    {
      addon: requireAddon(),
      core: data.core,
      descriptor: file.descriptor,
      writable: !file.readOnly,
      fileLength,
      zeroBeyondEnd: file.zeroBeyondEnd,
      guestCapacity: data.queueDepth,
      cacheSize: data.cacheSize,
    },
    {
      onControl: () => {
        woken = true;
      },
      onQueueStopped: (errno) => {
        stopped = { errno };
      },
      onFailure: tell,
    },
  );

  try {
    const facts = engine.open(data.readOnly ? 0 : RequestFlag.Writable);
    report({ type: 'opened', facts, wakeDescriptor: engine.ring.wakeDescriptor });
    while (order?.type !== 'close' && stopped === undefined && failure === undefined) {
      engine.step(TurnMode.Wait);
      if (!woken) continue;
      woken = false;
      if (Atomics.load(abandoned, 0) !== 0) return;
      // One wake may stand for several orders.
      for (let next = nextOrder(); next !== undefined && failure === undefined; next = nextOrder()) {
        order = next;
        if (order.type !== 'attach') continue;
        try {
          attach(engine, order);
        } catch (error) {
          failure = error;
        }
      }
    }
    // Also when it ended badly: what was answered has to become durable if it can.
    engine.control(RequestKind.Close, 0, () => undefined);
  } finally {
    engine.close();
  }
  if (failure !== undefined) throw failure;
  if (stopped !== undefined && stopped.errno !== 0) {
    throw new CorralError('ERR_IO', {
      path: data.path,
      reason: 'The block device was taken away by the kernel',
      cause: systemErrorOf(stopped.errno),
    });
  }
}

/** Says why the kernel gets an error, at once: this thread sends no messages before its end. The first few times. */
function tell(error: CorralError): void {
  if (failuresTold++ >= MAXIMUM_FAILURES_TOLD) return;
  writeSync(process.stderr.fd, `corral: '${data.path}': ${error.message}\n`);
}

function attach({ ring }: RingEngine, order: UblkOrder & { type: 'attach' }): void {
  const { deviceId, queueDepth, maxIoBytes, deviceSize } = order;
  ring.attachQueue({ deviceId, depth: queueDepth, maxIoBytes, deviceSize });
  report({ type: 'attached' });
}

function nextOrder(): UblkOrder | undefined {
  if (parentPort === null) return undefined;
  return receiveMessageOnPort(parentPort)?.message as UblkOrder | undefined;
}

function report(message: UblkReport): void {
  parentPort?.postMessage(message);
}

function inWords(error: unknown): unknown {
  if (error instanceof CorralError) return new CorralError(error.code, { path: data.path, ...error.details });
  if (!isSystemError(error)) return error;
  return new CorralError('ERR_IO', { path: data.path, reason: error.message, cause: error });
}
