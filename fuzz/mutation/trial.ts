/** What happens to one mutant: it is opened, mapped, read and checked, then repaired or changed, and checked again. */

import { mapChain } from '../../host/chain-map.js';
import type { CheckReport } from '../../host/check-report.js';
import { CorralError } from '../../host/errors.js';
import { Image } from '../../host/image.js';
import type { OpenOptions } from '../../host/open-options.js';
import { repairImage } from '../../host/repair.js';
import type { Random } from '../simulator/random.js';
import { mutantCodec } from './codec.js';
import { MutantFiles } from './files.js';
import type { Original } from './originals.js';
import { isL1TableAnL2Table } from './table-kinds.js';
import { drawCall, type Range } from './verbs.js';

/** How far a mutant came; sums of these show that mutants are not all refused at the door. */
export class Progress {
  opened = 0;
  readErrors = 0;
  clean = 0;
  damaged = 0;
  repaired = 0;
  opensForWriting = 0;
  calls = 0;
  callErrors = 0;
}

/** Guest bytes that are read and compared. */
const WATCHED_LENGTH = 131072;
const EXTENTS = 2000;
const CHECK_SIZES = [3000, 20_000, 1 << 18];
/** Most that one trial may take, in milliseconds: ten thousand times what it needs, on a machine that does other things. */
const TIME_LIMIT = 20_000;
/** For what is read before and after: new arrays for every mutant would be most of the work. */
const BEFORE = new Uint8Array(WATCHED_LENGTH);
const AFTER = new Uint8Array(WATCHED_LENGTH);

/** What the engine did wrong; undefined when nothing. */
export class Failure extends Error {}

/** Tries everything with a mutant, whose bytes it takes over. Throws `Failure`. */
export async function tryMutant(
  core: WebAssembly.Module,
  random: Random,
  { original, bytes }: { original: Original; bytes: Uint8Array },
  progress: Progress,
): Promise<void> {
  const start = performance.now();
  const clusterSize = 2 ** Math.min(21, Math.max(9, bytes[23] ?? 16));
  await new Trial(core, random, new MutantFiles(original, bytes, clusterSize), progress).run();
  const taken = performance.now() - start;
  if (taken > TIME_LIMIT) throw new Failure(`it took ${Math.round(taken)} ms`);
}

class Trial {
  constructor(
    private readonly core: WebAssembly.Module,
    private readonly random: Random,
    private readonly files: MutantFiles,
    private readonly progress: Progress,
  ) {}

  async run(): Promise<void> {
    const before = await this.look(true);
    if (this.random.chance(0.25)) return this.repair();
    this.files.restart(true);
    const changed = await this.change(before.bytes?.length ?? 0);
    if (before.bytes === undefined || !isSound(before.report) || before.twice) return;
    // With lazy refcounts it is not whole when it was left open; the next writer repairs it first.
    if (await this.isDirty()) await this.repairDirty();
    // Whatever was odd about this image: its structures were sound, so they must be now, and so must its bytes.
    this.files.restart(false);
    const after = await this.look(false, before.bytes.length);
    if (after.report === undefined) throw new Failure('it was sound, and cannot be checked after it was written');
    if (!isSound(after.report))
      throw new Failure(`it was sound, and is not after it was written: ${describe(after.report)}`);
    // A refcount that is too high may hide that a table is somebody's data, too.
    const comparable = before.report?.leaks === 0 && !before.shared;
    if (comparable && changed !== undefined) compare(before.bytes, after.bytes, changed);
  }

  /**
   * Opens for reading; what lies in the first guest bytes, at most `longest`, and what a check says. A disk that has grown
   * shows entries that were behind its end, which nobody has read before.
   */
  private async look(
    first: boolean,
    longest = WATCHED_LENGTH,
  ): Promise<{ bytes?: Uint8Array; report?: CheckReport; shared?: boolean; twice?: boolean }> {
    const checkSize = this.random.pick(CHECK_SIZES);
    const image = await this.open({ checkSize, tablesOnly: false });
    if (image === undefined) return {};
    if (first) this.progress.opened++;
    if (first && this.random.chance(0.5)) await this.attempt(() => this.map(image));
    const bytes = (first ? BEFORE : AFTER).subarray(0, Math.min(image.size, longest));
    const readable = await this.attempt(() => image.read(0, bytes));
    if (!readable) this.progress.readErrors++;
    if (image.size > WATCHED_LENGTH) {
      const place = this.random.chance(0.5) ? image.size - 512 : this.random.below(image.size - 512);
      await this.attempt(() => image.read(place, new Uint8Array(512)));
    }
    if (first && this.random.chance(0.3)) await this.attempt(() => this.readSnapshots(image));
    if (first && this.random.chance(0.3)) await this.attempt(() => readBitmaps(image));
    const shared = this.files.data !== undefined && (await this.isMovedData(image));
    const twice = first && ((await this.isUsedTwice(image)) || isL1TableAnL2Table(this.files.image.contents()));
    let report: CheckReport | undefined;
    await this.attempt(async () => {
      report = await image.check();
    });
    if (first && report !== undefined) this.progress[isSound(report) ? 'clean' : 'damaged']++;
    await this.attempt(() => image.close());
    return { shared, twice, ...(readable ? { bytes } : {}), ...(report === undefined ? {} : { report }) };
  }

  private async map(image: Image): Promise<void> {
    let count = 0;
    for await (const _ of mapChain(image, { offset: 0, length: image.size })) if (++count > EXTENTS) return;
  }

  /** Nobody counts the clusters of a data file: where one is not in its own place, it may be another one's, too. */
  private async isMovedData(image: Image): Promise<boolean> {
    let moved = true;
    await this.attempt(async () => {
      for await (const { offset, hostOffset = offset } of image.map({ length: WATCHED_LENGTH })) {
        if (hostOffset !== offset) return;
      }
      moved = false;
    });
    return moved;
  }

  /**
   * Whether two entries of the disk name one cluster, and its refcount allows for both: when one of them goes, nobody finds
   * the other to say that it is the only one now. QEMU leaves it so, too, and counts it as a corruption.
   */
  private async isUsedTwice(image: Image): Promise<boolean> {
    const { clusterSize } = image.info;
    const users = new Map<number, number>();
    let twice = false;
    await this.attempt(async () => {
      let count = 0;
      for await (const { kind, offset, hostOffset, length } of image.map()) {
        if (++count > EXTENTS) return;
        if (hostOffset === undefined || kind === 'compressed') continue;
        const end = hostOffset + Math.min(length, WATCHED_LENGTH);
        for (let at = hostOffset - (hostOffset % clusterSize); at < end; at += clusterSize) {
          const guestCluster = Math.floor((offset + Math.max(0, at - hostOffset)) / clusterSize);
          twice ||= (users.get(at) ?? guestCluster) !== guestCluster;
          users.set(at, guestCluster);
        }
      }
    });
    return twice;
  }

  private async isDirty(): Promise<boolean> {
    const header = new DataView(new ArrayBuffer(80));
    await this.files.image.read(0, new Uint8Array(header.buffer));
    return header.getUint32(4) >= 3 && (header.getUint8(79) & 1) !== 0;
  }

  private async repairDirty(): Promise<void> {
    const { core } = this;
    this.files.restart(true);
    await this.attempt(() => repairImage(this.files.image, 'all', { core, checkSize: this.random.pick(CHECK_SIZES) }));
  }

  /** What a repair calls sound must be. */
  private async repair(): Promise<void> {
    const { core } = this;
    this.files.restart(true);
    const kind = this.random.pick(['all', 'all', 'leaks'] as const);
    const checkSize = this.random.pick(CHECK_SIZES);
    let repaired: CheckReport | undefined;
    await this.attempt(async () => {
      repaired = (await repairImage(this.files.image, kind, { core, checkSize })).report;
    });
    if (!isSound(repaired)) return;
    this.progress.repaired++;
    this.files.restart(false);
    const { report } = await this.look(false);
    if (report === undefined || isSound(report)) return;
    throw new Failure(`a repair of ${kind} called it sound, and it is not: ${describe(report)}`);
  }

  /** Lists them, and reads the beginning of one. */
  private async readSnapshots(image: Image): Promise<void> {
    const snapshots = await image.snapshots.list();
    if (snapshots.length === 0) return;
    const { idBytes: id, nameBytes: name } = this.random.pick(snapshots);
    const snapshot = await this.open({ snapshot: { id, name } });
    if (snapshot === undefined) return;
    const length = Math.min(snapshot.size, WATCHED_LENGTH);
    await this.attempt(() => snapshot.read(0, new Uint8Array(length)));
    await this.attempt(() => snapshot.close());
  }

  /** Does some things, several at once; the guest ranges that may have changed, undefined when that is all. */
  private async change(watched: number): Promise<Range[] | undefined> {
    const image = await this.open({ write: true });
    if (image === undefined) return [];
    this.progress.opensForWriting++;
    let changed: Range[] | undefined = [];
    const calls: Promise<boolean>[] = [];
    for (let left = this.random.between(1, 6); left > 0; left--) {
      const span = this.random.chance(0.8) ? Math.min(image.size, watched) : image.size;
      const { run, changes } = drawCall(this.random, image, span);
      if (changes === undefined) changed = undefined;
      else changed?.push(...changes);
      calls.push(this.attempt(run));
      if (this.random.chance(0.3)) await Promise.all(calls);
    }
    for (const done of await Promise.all(calls)) this.progress[done ? 'calls' : 'callErrors']++;
    if (this.random.chance(0.8)) await this.attempt(() => image.close());
    // Left as it is, it goes on with what it freed.
    else this.files.leave();
    return changed;
  }

  private async open(options: Partial<OpenOptions>): Promise<Image | undefined> {
    const { core } = this;
    const requestCapacity = this.random.between(1, 4);
    const common = { core, requestCapacity, cacheSize: 0, codec: mutantCodec, ...options };
    let image: Image | undefined;
    await this.attempt(async () => {
      const named = this.files.options();
      try {
        image = await Image.open(this.files.image, { ...common, ...named });
      } catch (error) {
        // It may have lost its data file.
        if ((error as CorralError).code !== 'ERR_INVALID_ARGUMENT' || named.dataFile === undefined) throw error;
        image = await Image.open(this.files.image, { ...common, gate: named.gate });
      }
    });
    return image;
  }

  /** Whether it succeeded. An error that the library promises is no failure of ours; anything else is. */
  private async attempt(action: () => Promise<unknown>): Promise<boolean> {
    let succeeded = false;
    try {
      await action();
      succeeded = true;
    } catch (error) {
      if (error instanceof Failure) throw error;
      if (!(error instanceof CorralError) || error.code === 'ERR_INTERNAL') {
        throw new Failure(`${(error as Error).message}\n${(error as Error).stack}`);
      }
    }
    const { offence } = this.files;
    if (offence !== undefined) throw new Failure(offence);
    return succeeded;
  }
}

async function readBitmaps({ bitmaps }: Image): Promise<void> {
  for (const { nameBytes, inconsistent } of (await bitmaps.list()).slice(0, 3)) {
    if (inconsistent || nameBytes.length === 0) continue;
    let count = 0;
    for await (const _ of bitmaps.ranges(nameBytes)) if (++count > EXTENTS) break;
  }
}

/** The disk may have another length now. */
function compare(before: Uint8Array, after: Uint8Array | undefined, changed: readonly Range[]): void {
  if (after === undefined) throw new Failure('it could be read, and cannot after it was written');
  const length = Math.min(before.length, after.length);
  const [old, found] = [before.subarray(0, length), after.subarray(0, length)];
  for (const { offset, length } of changed) {
    // A write zeroes or discards whole clusters at most.
    old.fill(0, offset, offset + length);
    found.fill(0, offset, offset + length);
  }
  if (Buffer.compare(old, found) === 0) return;
  const index = old.findIndex((byte, place) => byte !== found[place]);
  throw new Failure(`guest byte ${index}, which nobody wrote, was ${old[index]}, is ${found[index]}`);
}

function isSound(report: CheckReport | undefined): boolean {
  return report !== undefined && report.corruptions === 0 && report.checkErrors === 0;
}

function describe({ corruptions, checkErrors, findings }: CheckReport): string {
  const texts = findings
    .filter(({ leak }) => !leak)
    .map(
      ({ structure, field, hostOffset, found, expected }) =>
        `structure ${structure} field ${field} at ${hostOffset}: ${found}, not ${expected}`,
    );
  return `${corruptions} corruptions, ${checkErrors} errors; ${texts.slice(0, 4).join('; ')}`;
}
