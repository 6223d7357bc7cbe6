/** A sequence as data: it can be cut down and run again. */

export type Engine = 'corral' | 'qemu';

/** The value of a write that means bytes which no codec makes smaller. */
export const NOISE = 256;

/** Numbers are bytes, `value` but for `NOISE` is the byte that is written everywhere. */
export type Step =
  | { readonly kind: 'write' | 'compressed'; readonly offset: number; readonly length: number; readonly value: number }
  | { readonly kind: 'zero' | 'unmap' | 'discard'; readonly offset: number; readonly length: number }
  | { readonly kind: 'snapshot' | 'apply' | 'delete'; readonly name: string }
  | { readonly kind: 'resize'; readonly size: number }
  | { readonly kind: 'amend'; readonly change: AmendChange }
  | { readonly kind: 'bitmap'; readonly verb: 'add'; readonly name: string; readonly granularity: number }
  | { readonly kind: 'bitmap'; readonly verb: 'remove' | 'enable' | 'disable' | 'clear'; readonly name: string }
  | { readonly kind: 'bitmap'; readonly verb: 'merge'; readonly name: string; readonly source: string }
  | { readonly kind: 'flush' | 'reopen' };

export type GuestStep = Extract<Step, { offset: number }>;
export type BitmapStep = Extract<Step, { kind: 'bitmap' }>;

/** One property at a time. */
export type AmendChange =
  | { readonly compat: '0.10' | '1.1' }
  | { readonly refcountBits: number }
  | { readonly lazyRefcounts: boolean };

/** What one engine does to one image before the images are compared; on the twin the other engine does the same. */
export interface Turn {
  readonly by: Engine;
  /** All requests at once, as far as this engine is concerned. */
  readonly atOnce: boolean;
  readonly steps: readonly Step[];
}

export interface ImagePlan {
  readonly createdBy: Engine;
  readonly size: number;
  readonly clusterSize: number;
  readonly compat: '0.10' | '1.1';
  readonly refcountBits: number;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly compressionType: 'zlib' | 'zstd';
  /** The disk is full of compressed clusters to begin with. */
  readonly compressed: boolean;
  readonly backing: BackingPlan | undefined;
  readonly dataFile: 'none' | 'plain' | 'raw';
  readonly preallocation: 'off' | 'metadata' | 'falloc' | 'full';
}

/** Another image below, or plain bytes; of any length. */
export interface BackingPlan {
  readonly format: 'raw' | 'qcow2';
  readonly size: number;
  readonly clusterSize: number;
}

export interface Plan {
  readonly seed: number;
  readonly image: ImagePlan;
  readonly turns: readonly Turn[];
}

/** Where the data file of the image at `path` lies. */
export function dataPath(path: string): string {
  return `${path}.data`;
}
