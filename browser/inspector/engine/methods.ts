/** What the worker does for each message of the page. */

import { CorralError } from '../../../host/errors.js';
import { HttpFile } from '../../../host/http-file.js';
import { inspect } from '../../../host/inspect/inspect.js';
import { BlobFile } from '../../blob-file.js';
import type { Answer, Argument, MethodName } from '../protocol.js';
import { bitmapRanges, changesSince } from './changes.js';
import { loadCore } from './core.js';
import { describeFile, listFolder, partitionsOf, readFile } from './files.js';
import { extentPage, mapPicture, type Watch } from './maps.js';
import { baseName, noAddressGate } from './opened.js';
import { placeAt } from './places.js';
import type { ReadMeter } from './read-meter.js';
import { Session } from './session.js';
import { CACHE_SIZE } from './table-ahead.js';

/** Bytes that one message asks for at most. */
const LONGEST_READ = 16 * 2 ** 20;
/** Neighbours are one stretch until they are this long together. */
const LONGEST_STRETCH = 64 * 2 ** 20;

type Work<M extends MethodName> = (session: Session, argument: Argument<M>, watch: Watch) => Promise<Answer<M>>;

export class Methods {
  private session: Session | undefined;

  constructor(readonly meter: ReadMeter) {}

  /** Runs one method. Rejects with whatever goes wrong. */
  async run(method: MethodName, argument: unknown, watch: Watch): Promise<unknown> {
    if (method === 'open') return this.open(argument as Argument<'open'>, watch.signal);
    if (this.session === undefined) throw new CorralError('ERR_CLOSED', { reason: 'No image is open' });
    const work = WORK[method] as Work<MethodName>;
    return work(this.session, argument as never, watch);
  }

  private async open(source: Argument<'open'>, signal: AbortSignal): Promise<Answer<'open'>> {
    const core = await loadCore();
    if (source.kind === 'url') {
      const warnings: string[] = [];
      const onWarning = (message: string): void => {
        warnings.push(message);
      };
      const file = await HttpFile.open(source.url, { onWarning, signal });
      this.meter.watch(() => file.bytesReceived);
      const name = baseName(new URL(source.url).pathname) || 'image';
      this.session = await Session.open(core, [{ name, open: () => file }], { warnings, gate: noAddressGate });
    } else {
      const files = source.files.map((file) => {
        const opened = new BlobFile(file, { cacheSize: CACHE_SIZE });
        this.meter.watch(() => opened.bytesRead);
        return { name: file.name, open: () => opened };
      });
      this.session = await Session.open(core, files, { top: source.top });
    }
    return this.session.overview;
  }
}

const WORK: { readonly [M in Exclude<MethodName, 'open'>]: Work<M> } = {
  verdict: (session, { policy }, { signal }) =>
    inspect(session.file, { core: session.core, policy, depth: 'tables', signal }),
  check: (session, _nothing, { signal, report }) =>
    session.image.check({ signal, onProgress: (done, total) => report({ done, total }) }),
  map: mapPicture,
  extents: extentPage,
  place: placeAt,
  async read(session, { space, state, offset, length }, { signal }) {
    const disk = space === 'guest' ? (await session.view(state)).disk : undefined;
    const end = disk?.size ?? session.overview.fileLength;
    const target = new Uint8Array(Math.max(0, Math.min(length, LONGEST_READ, end - offset)));
    if (target.length === 0) return target;
    if (disk === undefined) await session.file.read(offset, target);
    else await disk.read(offset, target, signal);
    return target;
  },
  async nextData(session, { state, offset }, { signal }) {
    const { disk, index } = await session.view(state);
    await index.extendTo(disk.size, signal);
    let start: number | undefined;
    let end = offset;
    for await (const extent of index.between(offset, disk.size, signal)) {
      const isData = extent.kind !== 'zero' && extent.kind !== 'unallocated';
      if (!isData && start !== undefined) break;
      if (!isData) continue;
      start ??= Math.max(offset, extent.offset);
      end = extent.offset + extent.length;
      if (end - start >= LONGEST_STRETCH) break;
    }
    return start === undefined ? undefined : { offset: start, length: end - start };
  },
  changes: (session, { state }, watch) => changesSince(session, state, watch),
  async bitmap(session, { index }, watch) {
    const bitmap = session.bitmaps[index];
    if (bitmap === undefined) throw new CorralError('ERR_NOT_FOUND', { reason: `There is no bitmap ${index}` });
    return bitmapRanges(session.image, bitmap.nameBytes, watch);
  },
  partitions: (session, { state }) => partitionsOf(session, state),
  list: listFolder,
  describe: describeFile,
  readFile: (session, request) => readFile(session, { ...request, length: Math.min(request.length, LONGEST_READ) }),
};
