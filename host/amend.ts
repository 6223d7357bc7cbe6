/** Changing properties of an open image: one request for each. */

import { AMEND_NAMES_OFFSET, AmendKind, AmendOptionsView, RequestKind } from './abi.js';
import { encodeName, powerOfTwo } from './create-image.js';
import type { EngineRequest } from './engine.js';
import { CorralError } from './errors.js';
import type { ImageFacts } from './image-facts.js';

/** What may change; what is not named stays as it is. */
export interface AmendImageOptions {
  /** '0.10' is version 2, '1.1' version 3. */
  compat?: '0.10' | '1.1';
  lazyRefcounts?: boolean;
  /** 1, 2, 4, 8, 16, 32 or 64. */
  refcountBits?: number;
  /** `false`: the data file is a raw image no longer; `true` only where it is one. */
  dataFileRaw?: boolean;
  /**
   * Name of the external data file of an image that has one, as it is stored; null: none, so that who opens the image has
   * to know it. Nothing is copied. The image has to be opened anew afterwards.
   */
  dataFile?: string | null;
  /**
   * Name of the file that the disk continues from, as it is stored; null: none. Nothing is copied: what shows through
   * changes. The image has to be opened anew afterwards.
   */
  backingFile?: string | null;
  /** With `backingFile` only. */
  backingFormat?: string;
  signal?: AbortSignal;
}

interface Change {
  readonly kind: AmendKind;
  readonly value: number;
  /** What the facts of the image are afterwards. */
  readonly facts: Partial<ImageFacts>;
  /** Of backing file and backing format, or of the data file. */
  readonly names?: readonly Uint8Array[];
}

/**
 * The requests that make the changes, in an order in which each is possible. Throws ERR_INVALID_ARGUMENT when they
 * contradict each other; then nothing has changed.
 */
export function amendRequests(info: ImageFacts, options: AmendImageOptions): EngineRequest<Partial<ImageFacts>>[] {
  return changesOf(info, options).map(({ kind, value, facts, names = [] }) => ({
    kind: RequestKind.Amend,
    signal: options.signal,
    prepare(core) {
      const view = new AmendOptionsView(core.memory, core.layout.page);
      const [first, second] = [names[0]?.length ?? 0, names[1]?.length ?? 0];
      view.kind = kind;
      view.value = value;
      view.dataFileLength = kind === AmendKind.DataFile ? first : 0;
      view.backingFileLength = kind === AmendKind.BackingFile ? first : 0;
      view.backingFormatLength = second;
      let at = core.layout.page + AMEND_NAMES_OFFSET;
      for (const name of names) {
        core.bytes(at, name.length).set(name);
        at += name.length;
      }
    },
    collect: () => facts,
  }));
}

/** What version 2 has one way of only. */
const VERSION_2: Partial<ImageFacts> = {
  version: 2,
  lazyRefcounts: false,
  compressionType: 'zlib',
  incompatibleFeatures: 0n,
  compatibleFeatures: 0n,
  autoclearFeatures: 0n,
};

/** Upwards first, downwards last: in between the image has every property. */
function changesOf(info: ImageFacts, options: AmendImageOptions): Change[] {
  checkOptions(info, options);
  const changes: Change[] = [];
  const { compat, refcountBits, dataFileRaw, dataFile, lazyRefcounts, backingFile, backingFormat = '' } = options;
  // What is in the way of the last change must be known before the first one.
  if (compat === '0.10') changes.push({ kind: AmendKind.Downgrade, value: 1, facts: {} });
  if (compat === '1.1') changes.push({ kind: AmendKind.Upgrade, value: 0, facts: { version: 3 } });
  if (refcountBits !== undefined) {
    const value = powerOfTwo(refcountBits, 'refcount width');
    changes.push({ kind: AmendKind.RefcountOrder, value, facts: { refcountBits } });
  }
  if (dataFileRaw === false) changes.push({ kind: AmendKind.DataFileRaw, value: 0, facts: { dataFileRaw } });
  if (dataFile !== undefined) {
    const facts = { dataFile: dataFile ?? undefined };
    changes.push({ kind: AmendKind.DataFile, value: 0, facts, names: [encodeName(dataFile ?? '')] });
  }
  if (backingFile !== undefined) {
    const names = [encodeName(backingFile ?? ''), encodeName(backingFormat)] as const;
    const facts = { backingFile: backingFile ?? undefined, backingFormat: backingFormat || undefined };
    changes.push({ kind: AmendKind.BackingFile, value: 0, facts, names });
  }
  if (lazyRefcounts !== undefined) {
    changes.push({ kind: AmendKind.LazyRefcounts, value: Number(lazyRefcounts), facts: { lazyRefcounts } });
  }
  if (compat === '0.10') {
    changes.push({ kind: AmendKind.Downgrade, value: 0, facts: { ...VERSION_2 } });
  }
  return changes;
}

/** What no order of the changes could do. */
function checkOptions(info: ImageFacts, options: AmendImageOptions): void {
  const refuse = (reason: string): never => {
    throw new CorralError('ERR_INVALID_ARGUMENT', { reason });
  };
  const old = options.compat === undefined ? info.version === 2 : options.compat === '0.10';
  const bits = options.refcountBits ?? info.refcountBits;
  if (old && options.refcountBits === undefined && bits !== 16) refuse('compat=0.10 requires refcount_bits=16');
  if (old && bits !== 16) {
    refuse('Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)');
  }
  if (old && options.lazyRefcounts) {
    refuse('Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)');
  }
  if (options.dataFile !== undefined && !info.hasDataFile) {
    refuse('data-file can only be set for images that use an external data file');
  }
  if (options.dataFileRaw && !info.dataFileRaw) refuse('data-file-raw cannot be set on existing images');
  if (options.backingFormat !== undefined && !options.backingFile) refuse('A backing format needs a backing file');
  if (bits > 64) refuse('Refcount width must be a power of two and may not exceed 64 bits');
}
