/** An image over NBD as its control socket and its metrics see it: the verbs of a device. */

import { RequestKind } from '../abi.js';
import type { Layer } from '../chain.js';
import { CorralError } from '../errors.js';
import type { Image } from '../image.js';
import type { NbdExport } from '../nbd/export.js';
import { commitInto, type Overlay } from '../node/commit-behind.js';
import type { ControlledDevice } from '../node/control-server.js';
import type { MeasuredDevice } from '../node/metrics.js';
import { meterMemory, RequestMeter, readMeter } from '../node/request-meter.js';
import { changeBitmap } from '../node/ublk-bitmaps.js';

/** What a server tells of an image that it serves. */
export type ServedImage = ControlledDevice & MeasuredDevice;

/** What only the server knows. */
export interface ServerFacts {
  /** The address of the image. */
  readonly node: string;
  /** Clients now. */
  readonly clients: number;
  /** Ends the server; fulfilled when it serves nobody any more. */
  stop(): Promise<void>;
}

/** The export of an image, whose requests are counted, and what can be done with the image meanwhile. */
export interface MeteredExport {
  readonly exported: NbdExport;
  control(server: ServerFacts): ServedImage;
}

/**
 * @param queueDepth requests that there can be at one time
 * @param overlay the image by its path; undefined where what lies behind it is not what it names
 */
export function meterExport(
  image: Image,
  exported: NbdExport,
  { queueDepth, overlay }: { queueDepth: number; overlay: Overlay | undefined },
): MeteredExport {
  const walks = new Walks();
  const memory = meterMemory();
  const count = counter(new RequestMeter(memory, queueDepth), queueDepth);
  const { name, readOnly, preferredBlockSize, zeroesFast } = exported;
  const contexts = exported.contexts.map(({ name: context, extents }) => ({
    name: context,
    extents: (offset: number, length: number) => walks.during(() => extents(offset, length)),
  }));
  return {
    exported: {
      name,
      get size() {
        return exported.size;
      },
      readOnly,
      preferredBlockSize,
      zeroesFast,
      contexts,
      read: (offset, target) => count(RequestKind.Read, target.length, () => exported.read(offset, target)),
      write: (offset, source, options) =>
        count(RequestKind.Write, source.length, () => exported.write(offset, source, options)),
      writeZeroes: (offset, length, options) =>
        count(RequestKind.WriteZeroes, length, () => exported.writeZeroes(offset, length, options)),
      discard: (offset, length) => count(RequestKind.Discard, length, () => exported.discard(offset, length)),
      flush: () => count(RequestKind.Flush, 0, () => exported.flush()),
    },
    control: (server) => ({
      ...verbsOf(image),
      commit: ({ keep = false, bytesPerSecond = 0 } = {}) =>
        walks.without(() => commitServed(image, overlay, { keep, bytesPerSecond })),
      node: server.node,
      get size() {
        return image.size;
      },
      get diskSize() {
        return image.size;
      },
      info: image.info,
      queueDepth,
      features: {
        dataPath: 'nbd',
        recovery: 'off',
        updateSize: false,
        get clients() {
          return server.clients;
        },
      },
      requests: () => readMeter(memory),
      stop: () => server.stop(),
    }),
  };
}

/** Its clients wait meanwhile. Cut off at any moment, the image still holds its disk: it is emptied last. */
async function commitServed(
  image: Image,
  overlay: Overlay | undefined,
  { keep, bytesPerSecond }: { keep: boolean; bytesPerSecond: number },
): Promise<void> {
  if (!(bytesPerSecond >= 0)) throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'The rate is negative' });
  if (image.readOnly) throw new CorralError('ERR_READ_ONLY', { reason: 'The image is served read-only' });
  const work = async ({ location, format }: Layer): Promise<void> => {
    if (overlay === undefined || location === undefined) {
      const reason = 'What lies behind the image is not the file that it names: end its server first';
      throw new CorralError('ERR_UNSUPPORTED', { reason });
    }
    await commitInto({ path: location, format }, overlay, bytesPerSecond);
  };
  await image.changeBehind(work, { empties: !keep });
}

/** Walks through the chain of an image, and what changes the chain: never both. */
class Walks {
  private underWay = 0;
  private changing: Promise<void> | undefined;
  private readonly enders: (() => void)[] = [];

  /** A walk waits for the end of a change. */
  async *during<T>(walk: () => AsyncIterable<T>): AsyncGenerator<T> {
    while (this.changing !== undefined) await this.changing;
    this.underWay++;
    try {
      yield* walk();
    } finally {
      this.underWay--;
      if (this.underWay === 0) for (const end of this.enders.splice(0)) end();
    }
  }

  /** A change waits for the end of all walks, and of another change. Settles as the work does. */
  async without(work: () => Promise<void>): Promise<void> {
    while (this.changing !== undefined) await this.changing;
    const change = this.afterWalks(work);
    this.changing = change.then(
      () => {},
      () => {},
    );
    try {
      await change;
    } finally {
      this.changing = undefined;
    }
  }

  private async afterWalks(work: () => Promise<void>): Promise<void> {
    while (this.underWay > 0) await new Promise<void>((resolve) => this.enders.push(resolve));
    await work();
  }
}

function verbsOf(image: Image) {
  return {
    snapshots: () => image.snapshots.list(),
    createSnapshot: (snapshot) => image.snapshots.create(snapshot),
    deleteSnapshot: (snapshot) => image.snapshots.delete(snapshot),
    async resize(size) {
      if (size < image.size) {
        throw new CorralError('ERR_INVALID_ARGUMENT', {
          reason: 'A disk cannot become smaller while it is served: detach it first',
        });
      }
      await image.resize(size);
      return { size: image.size, deviceSize: image.size };
    },
    flush: () => image.flush(),
    setCacheSize: (size) => image.setCacheSize(size),
    bitmaps: () => image.bitmaps.list(),
    changeBitmap: (change) => changeBitmap(image.bitmaps, change),
    handOver: () =>
      Promise.reject(
        new CorralError('ERR_UNSUPPORTED', { reason: 'Clients of an NBD server cannot wait for another' }),
      ),
    statistics: async () => image.statistics(),
  } satisfies Partial<ServedImage>;
}

/** Counts a request of this kind and length, from its start to its end. */
type Count = (kind: RequestKind, length: number, work: () => Promise<void>) => Promise<void>;

function counter(meter: RequestMeter, slots: number): Count {
  const free = Array.from({ length: slots }, (_, slot) => slot);
  return async (kind, length, work) => {
    const slot = free.pop();
    // The server itself flushes beside its clients, when it ends.
    if (slot === undefined) return work();
    meter.afterTurn();
    meter.begin(slot, kind, length);
    let failed = true;
    try {
      await work();
      failed = false;
    } finally {
      meter.end(slot, failed);
      meter.beforeTurn();
      free.push(slot);
    }
  };
}
