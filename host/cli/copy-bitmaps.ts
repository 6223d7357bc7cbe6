/** `convert --bitmaps`: the persistent dirty bitmaps of a disk go with it. */

import type { BitmapFacts } from '../bitmaps.js';
import { CorralError } from '../errors.js';
import type { Image } from '../image.js';
import type { Disk } from './disk.js';
import { CommandError, reasonOf, type Terminal } from './output.js';

/** Bitmaps with such tables came with this version of the format. */
const FIRST_VERSION = 3;

export interface BitmapOptions {
  /** Bitmaps that were not stored after they had been changed are left out, which is told here. */
  readonly skipBroken: Terminal | undefined;
  readonly signal?: AbortSignal;
}

/** The bitmaps of one source, on their way to a target. */
export interface BitmapCopy {
  /** Before a byte is copied: throws `CommandError` when that target cannot take them. */
  check(target: Disk): Promise<void>;
  /** Once the target holds the disk. Throws `CommandError`. */
  copy(target: Disk): Promise<void>;
}

/** Looks at the bitmaps of a source. Throws `CommandError` when they cannot be copied. */
export async function bitmapCopy(source: Disk, options: BitmapOptions): Promise<BitmapCopy> {
  const { image } = source;
  if (image === undefined || image.info.version < FIRST_VERSION) throw new CommandError('Source lacks bitmap support');
  const all = await image.bitmaps.list({ signal: options.signal });
  // QEMU meets the last one first.
  const broken = all.filter(({ inconsistent }) => inconsistent).reverse();
  if (broken[0] !== undefined && options.skipBroken === undefined) {
    throw new CommandError(`Cannot copy inconsistent bitmap '${broken[0].name}'`, 1, {
      hints: ["Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it"],
    });
  }
  const bitmaps = all.filter(({ inconsistent }) => !inconsistent);
  return {
    check: (target) => checkTarget(bitmaps, image, target),
    async copy(target) {
      const { skipBroken: terminal, signal } = options;
      for (const { name } of broken)
        terminal?.note(`${terminal.program}: warning: Skipping inconsistent bitmap '${name}'`);
      for (const facts of bitmaps) await copyOne(facts, image, target.image as Image, signal);
    },
  };
}

/** Everything that can be known before the disk is copied. */
async function checkTarget(bitmaps: readonly BitmapFacts[], source: Image, target: Disk): Promise<void> {
  const { image } = target;
  if (image === undefined || image.info.version < FIRST_VERSION) {
    throw new CommandError(`Format driver '${target.format}' does not support bitmaps`);
  }
  const there = new Set((await image.bitmaps.list()).map(({ name }) => name));
  const last = [...bitmaps].reverse();
  const taken = last.find(({ name }) => there.has(name));
  if (taken !== undefined) {
    throw new CommandError(`Failed to create bitmap ${taken.name}: Bitmap already exists: ${taken.name}`);
  }
  if (last[0] === undefined || source.size >= image.size) return;
  throw new CommandError(
    `Failed to populate bitmap ${last[0].name}: Bitmaps are of different sizes (destination size is ${image.size}, ` +
      `source size is ${source.size}) and can't be merged`,
  );
}

async function copyOne(facts: BitmapFacts, source: Image, target: Image, signal?: AbortSignal): Promise<void> {
  const { name, nameBytes, granularity, enabled } = facts;
  try {
    await target.bitmaps.add(nameBytes, { granularity, disabled: !enabled, signal });
  } catch (error) {
    throw inWords(`Failed to create bitmap ${name}`, error);
  }
  try {
    await target.bitmaps.mergeFrom(nameBytes, source, nameBytes, { signal });
  } catch (error) {
    // Half a bitmap would say that nothing has changed where something has.
    await target.bitmaps.remove(nameBytes).catch(() => {});
    throw inWords(`Failed to populate bitmap ${name}`, error);
  }
}

function inWords(what: string, error: unknown): unknown {
  if (!(error instanceof CorralError) || error.code === 'ERR_CANCELLED') return error;
  return new CommandError(`${what}: ${reasonOf(error)}`, 1, { cause: error });
}
