/** The loop of the thread that serves a device, from the open image to the closed one, whatever it consists of. */
import { CorralError } from '../errors.js';
import { isSystemError, type Ring, TurnMode } from './addon.js';
import type { DiskFacts } from './disk-facts.js';
import { adviceFor, systemErrorOf } from './errno.js';
import { fromRecord, toRecord } from './error-record.js';
import type { RingEngineHandlers } from './ring-engine-options.js';
import { attachQueue } from './ublk-attach.js';
import type { SharedImage, UblkOrder } from './ublk-messages.js';
import type { UblkVerb } from './ublk-verbs.js';
import type { WorkerPort } from './ublk-worker-port.js';

/** What sits in the ring: a `RingEngine` or a `RawRing`. */
export interface ServingEngine {
  readonly ring: Ring;
  readonly trap: unknown;
  readonly helperEnded: boolean;
  step(mode: TurnMode): void;
  helperLost(reason: string): void;
  endHelper(): void;
  endOthers(): void;
  close(): void;
}

/** What is served. */
export interface Serving {
  readonly engine: ServingEngine;
  /** The first errno with which a queue ended, or 0, once none of them serves. Default: as the engine's own queue. */
  readonly stopped?: number | undefined;
  open(): { facts: DiskFacts; shared: SharedImage | undefined };
  /** Rejects with the CorralError with which the verb failed. */
  carryOut(verb: UblkVerb): Promise<unknown>;
  /** Everything that was answered becomes durable. */
  closeImage(): void;
}

type VerbOrder = UblkOrder & { type: 'verb' };

/**
 * Serves until the device or its maker ends it. Waits for nothing but its ring: what it awaits has ended by then.
 *
 * @param path of the image
 * @throws whatever has ended it otherwise
 */
export async function serveUntilStopped(
  port: WorkerPort,
  path: string,
  make: (handlers: RingEngineHandlers) => Serving,
): Promise<void> {
  let attachment: (UblkOrder & { type: 'attach' }) | undefined;
  let closing = false;
  const verbs: VerbOrder[] = [];
  let stopped: { errno: number } | undefined;
  let failure: unknown;
  const served: Serving = make({
    // Orders that cannot wait for the end of whatever is being waited for are carried out here.
    onControl: () =>
      port.takeOrders(served.engine, (order) => {
        if (order.type === 'attach') attachment = order;
        else if (order.type === 'close') closing = true;
        else if (order.type === 'verb') verbs.push(order);
        else failure = fromRecord(order.error);
      }),
    onQueueStopped: (errno) => {
      stopped = { errno };
    },
    onFailure: (error) => port.tell(error, served.engine.trap !== undefined),
  });
  const { engine } = served;
  try {
    const { facts, shared } = served.open();
    port.report({ type: 'opened', facts, wakeDescriptor: engine.ring.wakeDescriptor, shared });
    while (!closing && stopped === undefined && failure === undefined) {
      engine.step(TurnMode.Wait);
      if (port.isAbandoned) return;
      const errno = served.stopped;
      if (errno !== undefined) stopped = { errno };
      for (let order = verbs.shift(); order !== undefined; order = verbs.shift()) {
        await carryOutVerb(port, path, served, order);
      }
      if (attachment === undefined) continue;
      try {
        const device = attachQueue(engine.ring, attachment, 0, 0);
        port.report({ type: 'attached', wakeDescriptor: engine.ring.wakeDescriptor, device });
      } catch (error) {
        failure = error;
      }
      attachment = undefined;
    }
    // Also when it ended badly: what was answered has to become durable if it can.
    served.closeImage();
  } finally {
    end(port, engine);
  }
  if (failure !== undefined) throw failure;
  if (stopped !== undefined && stopped.errno !== 0) {
    throw new CorralError('ERR_IO', {
      path,
      reason: 'The block device was taken away by the kernel',
      cause: systemErrorOf(stopped.errno),
    });
  }
}

/** The helper first: it reads from a descriptor that is somebody else's once the image is closed. */
function end(port: WorkerPort, engine: ServingEngine): void {
  try {
    engine.endHelper();
    while (!engine.helperEnded && !port.isAbandoned) engine.step(TurnMode.Wait);
  } finally {
    engine.endOthers();
    engine.close();
  }
}

async function carryOutVerb(
  port: WorkerPort,
  path: string,
  served: Serving,
  { number, verb }: VerbOrder,
): Promise<void> {
  try {
    port.report({ type: 'verbEnded', number, result: await served.carryOut(verb) });
  } catch (error) {
    port.report({ type: 'verbEnded', number, error: toRecord(inWords(error, path)) });
    if (!(error instanceof CorralError)) throw error;
  }
}

/** An error that names the image, whatever it was. */
export function inWords(error: unknown, path: string): unknown {
  if (error instanceof CorralError) return new CorralError(error.code, { path, ...error.details });
  if (!isSystemError(error)) return error;
  const { operation, errno, code, message } = error;
  return new CorralError('ERR_IO', { path, operation, errno, reason: adviceFor(code, message), cause: error });
}
