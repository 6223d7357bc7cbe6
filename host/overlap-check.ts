/** QEMU's levels of overlap checks, and what they consist of. */

import { OverlapCheck } from './abi.js';
import { CorralError } from './errors.js';

/** `constant`: what stays where it is; `cached`: what QEMU has in memory; `all`: also the L2 tables of snapshots. */
export type OverlapLevel = 'none' | 'constant' | 'cached' | 'all';

const STRUCTURES = {
  mainHeader: OverlapCheck.MainHeader,
  activeL1: OverlapCheck.ActiveL1,
  activeL2: OverlapCheck.ActiveL2,
  refcountTable: OverlapCheck.RefcountTable,
  refcountBlock: OverlapCheck.RefcountBlock,
  snapshotTable: OverlapCheck.SnapshotTable,
  inactiveL1: OverlapCheck.InactiveL1,
  inactiveL2: OverlapCheck.InactiveL2,
  bitmapDirectory: OverlapCheck.BitmapDirectory,
} as const;

export type OverlapStructure = keyof typeof STRUCTURES;

/** A level, and structures that are checked or not whatever it says. */
export type OverlapCheckOption =
  | OverlapLevel
  | ({ readonly template?: OverlapLevel } & { readonly [Name in OverlapStructure]?: boolean });

const CONSTANT =
  OverlapCheck.MainHeader |
  OverlapCheck.ActiveL1 |
  OverlapCheck.RefcountTable |
  OverlapCheck.SnapshotTable |
  OverlapCheck.BitmapDirectory;
const CACHED = CONSTANT | OverlapCheck.ActiveL2 | OverlapCheck.RefcountBlock | OverlapCheck.InactiveL1;

const LEVELS: Readonly<Record<OverlapLevel, number>> = {
  none: 0,
  constant: CONSTANT,
  cached: CACHED,
  all: CACHED | OverlapCheck.InactiveL2,
};

/** `OverlapCheck` bits. Throws ERR_INVALID_ARGUMENT for a level or a structure that there is not. */
export function overlapBits(option: OverlapCheckOption): number {
  const { template = 'cached', ...structures } = typeof option === 'string' ? { template: option } : option;
  if (!Object.hasOwn(LEVELS, template)) throw refuse(template);
  let bits = LEVELS[template];
  for (const [name, checked] of Object.entries(structures)) {
    if (!Object.hasOwn(STRUCTURES, name)) throw refuse(name);
    const bit = STRUCTURES[name as OverlapStructure];
    bits = checked ? bits | bit : bits & ~bit;
  }
  return bits;
}

function refuse(name: string): CorralError {
  return new CorralError('ERR_INVALID_ARGUMENT', { reason: `There is no overlap check '${name}'` });
}
