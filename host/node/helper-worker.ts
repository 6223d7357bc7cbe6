/**
 * The helper thread of a ring: decompresses clusters and reads what lies behind the image, several at once, beside a
 * thread that sits in its ring.
 *
 * It reads from the image's descriptor, which threads share, and writes results to shared memory; what of it gets where
 * is the ring thread's and the addon's to decide. It lives as long as its port.
 */
import { workerData } from 'node:worker_threads';
import { CorralError } from '../errors.js';
import { requireAddon } from './addon.js';
import { DirectIo } from './direct-io.js';
import { toRecord } from './error-record.js';
import { type Behind, openBehind } from './helper-backing.js';
import type { HelperData, HelperJob, HelperOrder, HelperReport } from './helper-messages.js';
import { nodeCodec } from './node-codec.js';
import { readDescriptor } from './node-file.js';

const data = workerData as HelperData;
const { Waker, becomeFlusher } = requireAddon();
const waker = new Waker(data.wakeDescriptor);
// Reads of it stand between a guest's writes and their end.
becomeFlusher();
const direct = data.direct ? new DirectIo(data.descriptor) : undefined;
const lanes: Uint8Array[] = [];
const underWay = new Set<Promise<void>>();
let behind: Behind | undefined;
/** Ends when it is known whether that can be had. */
let opening: Promise<void> = Promise.resolve();

if (data.backing !== undefined) {
  opening = openBehind(data.descriptor, data.backing).then(
    (opened) => {
      behind = opened;
      report({ type: 'backing', error: undefined });
    },
    (error) => report({ type: 'backing', error: toRecord(error) }),
  );
  track(opening);
}

data.port.on('message', (order: HelperOrder) => {
  switch (order.type) {
    case 'lane':
      lanes[order.lane] = new Uint8Array(order.memory);
      return;
    case 'job':
      start(order.lane, order.job);
      return;
    case 'commit':
      track(commit(order.bytesPerSecond));
      return;
    case 'close':
      void end();
      return;
  }
});
data.port.on('close', () => waker.close());

function start(lane: number, job: HelperJob): void {
  const work = carryOut(job, (lanes[lane] as Uint8Array).subarray(0, job.length)).then(
    () => report({ type: 'done', lane }),
    (error) => report({ type: 'failed', lane, error: toRecord(error) }),
  );
  track(work);
}

function track(work: Promise<void>): void {
  underWay.add(work);
  void work.then(() => underWay.delete(work));
}

async function carryOut(job: HelperJob, target: Uint8Array): Promise<void> {
  if (job.kind === 'decompress') return decompress(job, target);
  // The first thread of an image waits for this before it asks, others of it do not.
  await opening;
  if (behind === undefined) throw new CorralError('ERR_INTERNAL', { reason: 'Nothing behind the image is open' });
  return behind.read(job.offset, target);
}

async function decompress(job: HelperJob & { kind: 'decompress' }, target: Uint8Array): Promise<void> {
  const { type, clusterSize, hostOffset, sourceLength, sourceOffset, length } = job;
  const source = new Uint8Array(sourceLength);
  await (direct === undefined ? readDescriptor(data.descriptor, hostOffset, source) : direct.read(hostOffset, source));
  const cluster = await nodeCodec.decompress(type, source, clusterSize).catch((error: unknown) => {
    throw new CorralError('ERR_IMAGE_CORRUPT', { reason: (error as Error).message });
  });
  target.set(cluster.subarray(sourceOffset, sourceOffset + length));
}

async function commit(bytesPerSecond: number): Promise<void> {
  try {
    if (behind === undefined) throw new CorralError('ERR_INTERNAL', { reason: 'Nothing behind the image is open' });
    await behind.commit(bytesPerSecond);
    report({ type: 'committed', error: undefined });
  } catch (error) {
    report({ type: 'committed', error: toRecord(error) });
  }
}

async function end(): Promise<void> {
  await Promise.all(underWay);
  // They were only read: nothing is lost when one of them cannot be closed.
  await behind?.close().catch(() => {});
  report({ type: 'closed' });
}

function report(message: HelperReport): void {
  data.port.postMessage(message);
  waker.wake();
}
