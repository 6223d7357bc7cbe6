/**
 * The helper thread of a ring: decompresses clusters, several at once, beside a thread that sits in its ring.
 *
 * It reads from the image's descriptor, which threads share, and writes results to shared memory; what of it gets where
 * is the ring thread's and the addon's to decide. It lives as long as its port.
 */
import { workerData } from 'node:worker_threads';
import { CorralError } from '../errors.js';
import { requireAddon } from './addon.js';
import { toRecord } from './error-record.js';
import type { HelperData, HelperJob, HelperOrder, HelperReport } from './helper-messages.js';
import { nodeCodec } from './node-codec.js';
import { readDescriptor } from './node-file.js';

const data = workerData as HelperData;
const { Waker } = requireAddon();
const waker = new Waker(data.wakeDescriptor);
const lanes: Uint8Array[] = [];
const underWay = new Set<Promise<void>>();

data.port.on('message', (order: HelperOrder) => {
  switch (order.type) {
    case 'lane':
      lanes[order.lane] = new Uint8Array(order.memory);
      return;
    case 'job':
      start(order.lane, order.job);
      return;
    case 'close':
      void Promise.all(underWay).then(() => report({ type: 'closed' }));
      return;
  }
});
data.port.on('close', () => waker.close());

function start(lane: number, job: HelperJob): void {
  const work = decompress(job, lanes[lane] as Uint8Array).then(
    () => report({ type: 'done', lane }),
    (error) => report({ type: 'failed', lane, error: toRecord(error) }),
  );
  underWay.add(work);
  void work.then(() => underWay.delete(work));
}

async function decompress(job: HelperJob, target: Uint8Array): Promise<void> {
  const { hostOffset, sourceLength, sourceOffset, length } = job;
  const source = new Uint8Array(sourceLength);
  await readDescriptor(data.descriptor, hostOffset, source);
  const cluster = await nodeCodec.decompress(data.compressionType, source, data.clusterSize).catch((error: unknown) => {
    throw new CorralError('ERR_IMAGE_CORRUPT', { reason: (error as Error).message });
  });
  target.set(cluster.subarray(sourceOffset, sourceOffset + length));
}

function report(message: HelperReport): void {
  data.port.postMessage(message);
  waker.wake();
}
