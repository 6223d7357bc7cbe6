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
import { requireAddon } from './addon.js';
import { loadSharedCore } from './core.js';
import { CoreSharing, makeSharedParts } from './core-sharing.js';
import { imageDisk, rawDisk } from './disk-facts.js';
import { toRecord } from './error-record.js';
import type { BackingData } from './helper-messages.js';
import { gateOf } from './may-open.js';
import { NodeFile } from './node-file.js';
import { RawRing } from './raw-ring.js';
import { RequestMeter } from './request-meter.js';
import { RingEngine } from './ring-engine.js';
import { type UblkWorkerData, WorkerGate } from './ublk-messages.js';
import { inWords, serveUntilStopped } from './ublk-serving.js';
import { carryOut, carryOutRaw } from './ublk-verbs.js';
import { WorkerPort } from './ublk-worker-port.js';

const data = workerData as UblkWorkerData;
const port = new WorkerPort(data.path, data.abandoned);

void serveDevice();

async function serveDevice(): Promise<void> {
  const gate = new Int32Array(data.gate);
  Atomics.wait(gate, 0, WorkerGate.Closed);
  if (Atomics.load(gate, 0) === WorkerGate.Leave) return port.report({ type: 'closed' });
  try {
    requireAddon().becomeFlusher();
    const file = await NodeFile.open(data.path, { write: !data.readOnly, direct: data.direct });
    try {
      await (data.format === 'raw' ? serveRaw(file) : serveImage(file));
    } finally {
      await file.close();
    }
    port.report({ type: 'closed' });
  } catch (error) {
    port.report({ type: 'failed', error: toRecord(inWords(error, data.path)) });
  }
}

async function serveImage(file: NodeFile): Promise<void> {
  // Not closed: that would close the file.
  const { info } = await Image.open(file, { core: data.core, inspect: true, requestCapacity: 1, cacheSize: 0 });
  checkFacts(info, { core: data.core, discardNoUnref: data.treatment.keepDiscarded ?? false });
  const dataFile = await openDataFile(file, info);
  try {
    await serveClean(file, async () => serve(await sized(file), dataFile && (await sized(dataFile)), backingOf(info)));
  } finally {
    await dataFile?.close();
  }
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

function serve(image: Sized, dataFile: Sized | undefined, backing: BackingData | undefined): Promise<void> {
  const { file } = image;
  const sharing = data.queues > 1 ? new CoreSharing(makeSharedParts(data.queues, data.queueDepth), 0) : undefined;
  return serveUntilStopped(port, data.path, (handlers) => {
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
        helper: { jobs: data.helperJobs, backing, start: port.startHelper },
      },
      {
        ...handlers,
        onQueueStopped: (errno) => {
          if (sharing === undefined) handlers.onQueueStopped?.(errno);
          else sharing.noteStopped(errno);
        },
      },
    );
    let facts: ImageFacts | undefined;
    return {
      engine,
      get stopped() {
        return sharing?.stopped;
      },
      open() {
        facts = engine.open(data.readOnly ? 0 : RequestFlag.Writable);
        const parts = engine.sharedParts();
        const { descriptor } = file;
        const dataDescriptor = dataFile?.file.descriptor;
        const shared = parts && { parts, descriptor, writable: !file.readOnly, dataDescriptor, backing };
        return { facts: imageDisk(facts), shared };
      },
      carryOut: (verb) => carryOut(engine, verb, facts as ImageFacts),
      closeImage: () => engine.control(RequestKind.Close, 0, () => undefined),
    };
  });
}

async function serveRaw(file: NodeFile): Promise<void> {
  const facts = rawDisk(await file.size());
  return serveUntilStopped(port, data.path, (handlers) => {
    const engine = new RawRing(
      {
        addon: requireAddon(),
        descriptor: file.descriptor,
        writable: !file.readOnly,
        guestCapacity: data.queueDepth,
        ignoresFlushes: data.ignoresFlushes,
        guard: data.guard,
        meter: new RequestMeter(data.meter, data.queueDepth),
      },
      handlers,
    );
    return {
      engine,
      open: () => ({ facts, shared: undefined }),
      carryOut: (verb) => carryOutRaw(engine, verb),
      closeImage: () => engine.flush(),
    };
  });
}
