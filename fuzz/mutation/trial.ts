/** What happens to one mutant: it is opened, mapped, read, checked, written and checked again. */

import type { CheckReport } from '../../host/check-report.js';
import { CorralError } from '../../host/errors.js';
import { Image } from '../../host/image.js';
import type { OpenOptions } from '../../host/open-options.js';
import { repairImage } from '../../host/repair.js';
import type { Random } from '../simulator/random.js';
import { type FileLimits, WatchedFile } from './watched-file.js';

/** How far a mutant came; sums of these show that mutants are not all refused at the door. */
export class Progress {
  opened = 0;
  readErrors = 0;
  clean = 0;
  damaged = 0;
  repaired = 0;
  opensForWriting = 0;
  writes = 0;
  writeErrors = 0;
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

/** Tries everything with the mutant. Throws `Failure`. */
export async function tryMutant(
  core: WebAssembly.Module,
  random: Random,
  bytes: Uint8Array,
  progress: Progress,
): Promise<void> {
  const start = performance.now();
  await new Trial(core, random, bytes, progress).run();
  const taken = performance.now() - start;
  if (taken > TIME_LIMIT) throw new Failure(`it took ${Math.round(taken)} ms`);
}

class Trial {
  private file: WatchedFile;
  private readonly clusterSize: number;

  constructor(
    private readonly core: WebAssembly.Module,
    private readonly random: Random,
    bytes: Uint8Array,
    private readonly progress: Progress,
  ) {
    this.clusterSize = 2 ** Math.min(21, Math.max(9, bytes[23] ?? 16));
    this.file = new WatchedFile(bytes, this.limits(bytes.length, false));
  }

  async run(): Promise<void> {
    const before = await this.look(true);
    if (this.random.chance(0.25)) return this.repair();
    this.file.restart(this.limits(this.file.end, true));
    const changed = await this.write(before.bytes?.length ?? 0);
    if (before.bytes === undefined || !isSound(before.report)) return;
    // Whatever was odd about this image: its structures were sound, so they must be now, and so must its bytes.
    this.file.restart(this.limits(this.file.end, false));
    const after = await this.look(false);
    if (after.report === undefined) throw new Failure('it was sound, and cannot be checked after it was written');
    if (!isSound(after.report))
      throw new Failure(`it was sound, and is not after it was written: ${describe(after.report)}`);
    // A refcount that is too high may hide that a table is somebody's data, too.
    if (before.report?.leaks === 0) this.compare(before.bytes, after.bytes, changed);
  }

  /** Opens for reading; what lies in the first guest bytes, and what a check says. */
  private async look(first: boolean): Promise<{ bytes?: Uint8Array; report?: CheckReport }> {
    const checkSize = this.random.pick(CHECK_SIZES);
    const image = await this.open({ checkSize, tablesOnly: false });
    if (image === undefined) return {};
    if (first) this.progress.opened++;
    if (first && this.random.chance(0.5)) await this.attempt(() => this.map(image));
    const bytes = (first ? BEFORE : AFTER).subarray(0, Math.min(image.size, WATCHED_LENGTH));
    const readable = await this.attempt(() => image.read(0, bytes));
    if (!readable) this.progress.readErrors++;
    if (image.size > WATCHED_LENGTH) {
      const place = this.random.chance(0.5) ? image.size - 512 : this.random.below(image.size - 512);
      await this.attempt(() => image.read(place, new Uint8Array(512)));
    }
    if (first && this.random.chance(0.3)) await this.attempt(() => this.readSnapshots(image));
    let report: CheckReport | undefined;
    await this.attempt(async () => {
      report = await image.check();
    });
    if (first && report !== undefined) this.progress[isSound(report) ? 'clean' : 'damaged']++;
    await this.attempt(() => image.close());
    return { ...(readable ? { bytes } : {}), ...(report === undefined ? {} : { report }) };
  }

  private async map(image: Image): Promise<void> {
    let count = 0;
    for await (const _ of image.map()) if (++count > EXTENTS) return;
  }

  /** What a repair calls sound must be. */
  private async repair(): Promise<void> {
    const { core } = this;
    this.file.restart(this.limits(this.file.end, true));
    const kind = this.random.pick(['all', 'all', 'leaks'] as const);
    const checkSize = this.random.pick(CHECK_SIZES);
    let repaired: CheckReport | undefined;
    await this.attempt(async () => {
      repaired = (await repairImage(this.file, kind, { core, checkSize })).report;
    });
    if (!isSound(repaired)) return;
    this.progress.repaired++;
    this.file.restart(this.limits(this.file.end, false));
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

  /** Writes a little, several requests at once; the guest ranges that may have changed. */
  private async write(watched: number): Promise<Range[]> {
    const image = await this.open({ write: true });
    if (image === undefined) return [];
    this.progress.opensForWriting++;
    const changed: Range[] = [];
    const calls: Promise<boolean>[] = [];
    for (let left = this.random.between(1, 6); left > 0; left--) {
      const length = Math.min(image.size, this.random.between(1, 3 * Math.min(this.clusterSize, 65536)));
      const span = this.random.chance(0.8) ? Math.min(image.size, watched) : image.size;
      const offset = this.random.below(Math.max(1, span - length));
      changed.push({ offset, length });
      calls.push(this.attempt(this.drawChange(image, offset, length)));
      if (this.random.chance(0.3)) await Promise.all(calls);
    }
    if (this.random.chance(0.2)) calls.push(this.attempt(() => this.changeSnapshots(image)));
    for (const done of await Promise.all(calls)) this.progress[done ? 'writes' : 'writeErrors']++;
    if (this.random.chance(0.8)) await this.attempt(() => image.close());
    // Left as it is, it goes on with what it freed: from here on in a file that nobody looks at.
    else this.file = new WatchedFile(this.file.contents(), this.limits(this.file.end, false));
    return changed;
  }

  private async changeSnapshots(image: Image): Promise<void> {
    if (this.random.chance(0.5)) await image.snapshots.create({ name: 'mutant' });
    const snapshots = await image.snapshots.list();
    if (snapshots.length === 0 || this.random.chance(0.3)) return;
    const { idBytes: id, nameBytes: name } = this.random.pick(snapshots);
    await image.snapshots.delete({ id, name });
  }

  private drawChange(image: Image, offset: number, length: number): () => Promise<void> {
    switch (this.random.below(6)) {
      case 0:
        return () => image.writeZeroes(offset, length, { unmap: this.random.chance(0.5) });
      case 1:
        return () => image.discard(offset, length);
      case 2:
        return () => image.flush();
      default:
        return () => image.write(offset, new Uint8Array(length).fill(0x5a), { durable: this.random.chance(0.2) });
    }
  }

  private compare(before: Uint8Array, after: Uint8Array | undefined, changed: readonly Range[]): void {
    if (after === undefined) throw new Failure('it could be read, and cannot after it was written');
    for (const { offset, length } of changed) {
      // A write zeroes or discards whole clusters at most.
      before.fill(0, offset, offset + length);
      after.fill(0, offset, offset + length);
    }
    if (Buffer.compare(before, after) === 0) return;
    const index = before.findIndex((byte, place) => byte !== after[place]);
    throw new Failure(`guest byte ${index}, which nobody wrote, was ${before[index]}, is ${after[index]}`);
  }

  private async open(options: Partial<OpenOptions>): Promise<Image | undefined> {
    let image: Image | undefined;
    await this.attempt(async () => {
      const requestCapacity = this.random.between(1, 4);
      image = await Image.open(this.file, { core: this.core, requestCapacity, cacheSize: 0, ...options });
    });
    return image;
  }

  /** Whether it succeeded. An error that the library promises is no failure of ours; anything else is. */
  private async attempt(action: () => Promise<void>): Promise<boolean> {
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
    if (this.file.offence !== undefined) throw new Failure(this.file.offence);
    return succeeded;
  }

  private limits(length: number, write: boolean): FileLimits {
    // A refcount block full of nonsense says that all its clusters are in use: the next one that is free lies behind
    // them. One such block costs a byte range, not space; there cannot be more of them than clusters in the file.
    const clusters = Math.ceil(length / this.clusterSize);
    const countedByBlock = this.clusterSize * 8 * this.clusterSize;
    return {
      write,
      capacity: length + (1 << 20),
      length: (clusters + 2) * countedByBlock,
      clusterSize: this.clusterSize,
      calls: 4000 + Math.ceil(length / 64),
    };
  }
}

interface Range {
  readonly offset: number;
  readonly length: number;
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
