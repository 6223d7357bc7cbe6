/**
 * What a helper thread does for one ring: decompresses clusters and reads what lies behind the image, several at once, beside
 * a thread that sits in its ring.
 *
 * It reads from the image's descriptor, which threads share, and writes results to shared memory; what of it gets where
 * is the ring thread's and the addon's to decide. It lives as long as its port.
 */
import { CorralError } from '../errors.js';
import type { LayerPools } from '../layer-pool.js';
import { requireAddon, type Waker } from './addon.js';
import { DirectIo } from './direct-io.js';
import { toRecord } from './error-record.js';
import { type Behind, openBehind } from './helper-backing.js';
import type { BackingData, HelperData, HelperJob, HelperOrder, HelperReport } from './helper-messages.js';
import { nodeCodec } from './node-codec.js';
import { readDescriptor } from './node-file.js';

/** What the sessions of a thread have in common. */
export interface SharedDisks {
  /** What lies behind an image, for all of its rings. */
  readonly behind: Map<string, { readonly opening: Promise<Behind>; users: number }>;
  /** Layers of all images. */
  readonly pools: LayerPools;
}

export class HelperSession {
  private readonly waker: Waker;
  private readonly direct: DirectIo | undefined;
  private readonly lanes: Uint8Array[] = [];
  private readonly underWay = new Set<Promise<void>>();
  /** What lies behind the image; rejects when that cannot be had. */
  private readonly behind: Promise<Behind>;
  private left = false;

  /** @param onEnd the port is closed */
  constructor(
    private readonly data: HelperData,
    private readonly disks: SharedDisks,
    onEnd: () => void,
  ) {
    const { Waker } = requireAddon();
    this.waker = new Waker(data.wakeDescriptor);
    this.direct = data.direct ? new DirectIo(data.descriptor) : undefined;
    this.behind = this.open(data.backing);
    if (data.backing !== undefined) {
      this.track(
        this.behind.then(
          () => this.report({ type: 'backing', error: undefined }),
          (error) => this.report({ type: 'backing', error: toRecord(error) }),
        ),
      );
    }
    this.behind.catch(() => {});
    data.port.on('message', (order: HelperOrder) => this.take(order));
    data.port.on('close', () => {
      this.waker.close();
      void this.leave().then(onEnd);
    });
  }

  private take(order: HelperOrder): void {
    switch (order.type) {
      case 'lane':
        this.lanes[order.lane] = new Uint8Array(order.memory);
        return;
      case 'job':
        this.start(order.lane, order.job);
        return;
      case 'commit':
        this.track(this.commit(order.bytesPerSecond));
        return;
      case 'close':
        void this.end();
        return;
    }
  }

  private start(lane: number, job: HelperJob): void {
    const work = this.carryOut(job, (this.lanes[lane] as Uint8Array).subarray(0, job.length)).then(
      () => this.report({ type: 'done', lane }),
      (error) => this.report({ type: 'failed', lane, error: toRecord(error) }),
    );
    this.track(work);
  }

  private track(work: Promise<void>): void {
    this.underWay.add(work);
    void work.then(() => this.underWay.delete(work));
  }

  private async carryOut(job: HelperJob, target: Uint8Array): Promise<void> {
    if (job.kind === 'decompress') return this.decompress(job, target);
    // The first ring of an image waits for this before it asks, others of it do not.
    return (await this.behind).read(job.offset, target);
  }

  private async decompress(job: HelperJob & { kind: 'decompress' }, target: Uint8Array): Promise<void> {
    const { type, clusterSize, hostOffset, sourceLength, sourceOffset, length } = job;
    const source = new Uint8Array(sourceLength);
    await (this.direct?.read(hostOffset, source) ?? readDescriptor(this.data.descriptor, hostOffset, source));
    const cluster = await nodeCodec.decompress(type, source, clusterSize).catch((error: unknown) => {
      throw new CorralError('ERR_IMAGE_CORRUPT', { reason: (error as Error).message });
    });
    target.set(cluster.subarray(sourceOffset, sourceOffset + length));
  }

  private async commit(bytesPerSecond: number): Promise<void> {
    try {
      await (await this.behind).commit(bytesPerSecond);
      this.report({ type: 'committed', error: undefined });
    } catch (error) {
      this.report({ type: 'committed', error: toRecord(error) });
    }
  }

  private async end(): Promise<void> {
    await Promise.all(this.underWay);
    await this.leave();
    this.report({ type: 'closed' });
  }

  private open(backing: BackingData | undefined): Promise<Behind> {
    if (backing === undefined) {
      return Promise.reject(new CorralError('ERR_INTERNAL', { reason: 'Nothing behind the image is open' }));
    }
    const { behind } = this.disks;
    const key = this.keyOf(backing);
    let shared = behind.get(key);
    if (shared === undefined) {
      const { mayOpen, direct, chainDepth } = backing;
      const layers = this.disks.pools.under(mayOpen, direct, chainDepth);
      shared = { opening: openBehind(this.data.descriptor, backing, layers), users: 0 };
      behind.set(key, shared);
    }
    shared.users += 1;
    return shared.opening;
  }

  /** A descriptor is one image's as long as one of its rings is served. */
  private keyOf({ path }: BackingData): string {
    return `${this.data.descriptor} ${path}`;
  }

  private async leave(): Promise<void> {
    const { backing } = this.data;
    if (this.left || backing === undefined) return;
    this.left = true;
    const { behind } = this.disks;
    const key = this.keyOf(backing);
    const shared = behind.get(key);
    if (shared === undefined || --shared.users > 0) return;
    behind.delete(key);
    // It was only read: nothing is lost when it cannot be closed.
    await shared.opening.then((opened) => opened.close()).catch(() => {});
  }

  private report(message: HelperReport): void {
    this.data.port.postMessage(message);
    this.waker.wake();
  }
}
