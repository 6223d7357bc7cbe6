/**
 * The thread that serves one ublk device. It owns the image file, the core and the ring, and sits in the ring's turns
 * from its first moment to its last: the event loop never runs, so orders are fetched by hand when the ring is woken.
 */
import { resolve } from 'node:path';
import { workerData } from 'node:worker_threads';
import { RequestFlag, RequestKind } from '../abi.js';
import { CorralError } from '../errors.js';
import { Image } from '../image.js';
import type { ImageFacts } from '../image-facts.js';
import { checkFacts } from '../open-options.js';
import { isDirtyImage, repairDirty } from '../repair.js';
import { isSystemError, requireAddon, TurnMode } from './addon.js';
import { loadSharedCore } from './core.js';
import { CoreSharing, makeSharedParts } from './core-sharing.js';
import { systemErrorOf } from './errno.js';
import { fromRecord, toRecord } from './error-record.js';
import type { BackingData } from './helper-messages.js';
import { gateOf } from './may-open.js';
import { NodeFile } from './node-file.js';
import { RequestMeter } from './request-meter.js';
import { RingEngine } from './ring-engine.js';
import { attachQueue } from './ublk-attach.js';
import type { UblkOrder, UblkWorkerData } from './ublk-messages.js';
import { carryOut } from './ublk-verbs.js';
import { WorkerPort } from './ublk-worker-port.js';

type AttachOrder = UblkOrder & { type: 'attach' };
type VerbOrder = UblkOrder & { type: 'verb' };

const data = workerData as UblkWorkerData;
const port = new WorkerPort(data.path, data.abandoned);

try {
  requireAddon().becomeFlusher();
  const file = await NodeFile.open(data.path, { write: !data.readOnly, direct: data.direct });
  try {
    // Not closed: that would close the file.
    const { info } = await Image.open(file, { core: data.core, inspect: true, requestCapacity: 1, cacheSize: 0 });
    checkFacts(info, { core: data.core, discardNoUnref: data.treatment.keepDiscarded ?? false });
    const dataFile = await openDataFile(file, info);
    try {
      await serveClean(file, async () =>
        serve(await sized(file), dataFile && (await sized(dataFile)), backingOf(info)),
      );
    } finally {
      await dataFile?.close();
    }
  } finally {
    await file.close();
  }
  port.report({ type: 'closed' });
} catch (error) {
  port.report({ type: 'failed', error: toRecord(inWords(error)) });
}

/** As everywhere, an image that was not closed cleanly is repaired before it is written. */
async function serveClean(file: NodeFile, serveOnce: () => Promise<void>): Promise<void> {
  try {
    await serveOnce();
  } catch (error) {
    if (!isDirtyImage(error)) throw error;
    await repairDirty(file, { core: data.core });
    await serveOnce();
  }
}

interface Sized {
  file: NodeFile;
  length: number;
}

async function sized(file: NodeFile): Promise<Sized> {
  return { file, length: await file.size() };
}

/** The external data file. As for QEMU, its name is a path of the working directory, never a protocol. */
async function openDataFile(image: NodeFile, { hasDataFile, dataFile }: ImageFacts): Promise<NodeFile | undefined> {
  if (!hasDataFile || dataFile === undefined) return undefined;
  const name = resolve(data.folder, dataFile);
  const gate = gateOf(data.mayOpen, { direct: data.direct });
  const write = !data.readOnly;
  return (await gate({ role: 'data file', name, from: data.path, write, above: [image.identity] })) as NodeFile;
}

/** How to open what lies behind the image; undefined when nothing does. */
function backingOf(facts: ImageFacts): BackingData | undefined {
  const { backingFile } = facts;
  if (backingFile === undefined) return undefined;
  if (data.noBacking) {
    const reason = `The image has a backing file, '${backingFile}', which is to stay closed`;
    throw new CorralError('ERR_UNSUPPORTED', { reason, field: 'backing file' });
  }
  const { path, mayOpen, direct } = data;
  return { path, facts, write: !data.readOnly, mayOpen, direct };
}

/** From the open image to the closed one. Waits for nothing but its ring: what it awaits has ended by then. */
async function serve(image: Sized, dataFile: Sized | undefined, backing: BackingData | undefined): Promise<void> {
  const { file } = image;
  let attachment: AttachOrder | undefined;
  let closing = false;
  const verbs: VerbOrder[] = [];
  let stopped: { errno: number } | undefined;
  let failure: unknown;
  const sharing = data.queues > 1 ? new CoreSharing(makeSharedParts(data.queues, data.queueDepth), 0) : undefined;
  const engine = new RingEngine(
    {
      addon: requireAddon(),
      core: sharing === undefined ? data.core : loadSharedCore(),
      sharing,
      descriptor: file.descriptor,
      writable: !file.readOnly,
      fileLength: image.length,
      zeroBeyondEnd: file.zeroBeyondEnd,
      guestCapacity: data.queueDepth,
      cacheSize: data.cacheSize,
      dataFile: dataFile && { descriptor: dataFile.file.descriptor, length: dataFile.length },
      ignoresFlushes: data.ignoresFlushes,
      direct: data.direct,
      treatment: data.treatment,
      meter: new RequestMeter(data.meter, data.queueDepth),
      helper: {
        jobs: data.helperJobs,
        backing,
        start: port.startHelper,
      },
    },
    {
      // Orders that cannot wait for the end of whatever is being waited for are carried out here.
      onControl: () =>
        port.takeOrders(engine, (order) => {
          if (order.type === 'attach') attachment = order;
          else if (order.type === 'close') closing = true;
          else if (order.type === 'verb') verbs.push(order);
          else failure = fromRecord(order.error);
        }),
      onQueueStopped: (errno) => {
        if (sharing === undefined) stopped = { errno };
        else sharing.noteStopped(errno);
      },
      onFailure: (error) => port.tell(error, engine.trap !== undefined),
    },
  );

  try {
    const facts = engine.open(data.readOnly ? 0 : RequestFlag.Writable);
    const parts = engine.sharedParts();
    const shared = parts && {
      parts,
      descriptor: file.descriptor,
      writable: !file.readOnly,
      dataDescriptor: dataFile?.file.descriptor,
      backing,
    };
    port.report({ type: 'opened', facts, wakeDescriptor: engine.ring.wakeDescriptor, shared });
    while (!closing && stopped === undefined && failure === undefined) {
      engine.step(TurnMode.Wait);
      if (port.isAbandoned) return;
      const errno = sharing?.stopped;
      if (errno !== undefined) stopped = { errno };
      for (let order = verbs.shift(); order !== undefined; order = verbs.shift()) {
        await carryOutVerb(engine, order, facts);
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
    engine.control(RequestKind.Close, 0, () => undefined);
  } finally {
    end(engine);
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

/** The helper first: it reads from a descriptor that is somebody else's once the image is closed. */
function end(engine: RingEngine): void {
  try {
    engine.endHelper();
    while (!engine.helperEnded && !port.isAbandoned) engine.step(TurnMode.Wait);
  } finally {
    engine.endOthers();
    engine.close();
  }
}

async function carryOutVerb(engine: RingEngine, { number, verb }: VerbOrder, facts: ImageFacts): Promise<void> {
  try {
    port.report({ type: 'verbEnded', number, result: await carryOut(engine, verb, facts) });
  } catch (error) {
    port.report({ type: 'verbEnded', number, error: toRecord(inWords(error)) });
    if (!(error instanceof CorralError)) throw error;
  }
}

function inWords(error: unknown): unknown {
  if (error instanceof CorralError) return new CorralError(error.code, { path: data.path, ...error.details });
  if (!isSystemError(error)) return error;
  const { operation, errno, message } = error;
  return new CorralError('ERR_IO', { path: data.path, operation, errno, reason: message, cause: error });
}
