/** What an image's header says, as a plain object. */

import type { ImageInfoView } from './abi.js';
import { type CoreInstance, decodeName } from './core-instance.js';

const COMPATIBLE_LAZY_REFCOUNTS = 1n;
const INCOMPATIBLE_DIRTY = 1n;
const INCOMPATIBLE_CORRUPT = 2n;
const INCOMPATIBLE_DATA_FILE = 4n;
const INCOMPATIBLE_EXTENDED_L2 = 16n;
const AUTOCLEAR_RAW_DATA = 2n;
const ENCRYPTION = ['none', 'aes', 'luks'] as const;

/** Facts of a header. Sizes and offsets are bytes; names are the image's own strings and must be escaped before a terminal sees them. */
export interface ImageFacts {
  readonly version: 2 | 3;
  /** Beyond 2^53 - 1 only near it; such an image can be looked at, but not opened. */
  readonly virtualSize: number;
  readonly clusterSize: number;
  /** Bytes of the image file when it was opened. */
  readonly fileLength: number;
  readonly refcountBits: number;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly dirty: boolean;
  readonly corrupt: boolean;
  readonly compressionType: 'zlib' | 'zstd';
  readonly encryption: 'none' | 'aes' | 'luks';
  /** Where the LUKS header lies in the file, of images that have one and say so. */
  readonly encryptionHeader: { readonly offset: bigint; readonly length: bigint } | undefined;
  readonly snapshotCount: number;
  /** Persistent bitmaps that can be listed. */
  readonly hasBitmaps: boolean;
  readonly hasDataFile: boolean;
  readonly dataFileRaw: boolean;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  readonly dataFile: string | undefined;
  readonly incompatibleFeatures: bigint;
  readonly compatibleFeatures: bigint;
  readonly autoclearFeatures: bigint;
  readonly l1Size: number;
  readonly l1TableOffset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
}

/** Reads the info record while an Open request finishes: its names lie in the page. */
export function readFacts(core: CoreInstance): ImageFacts {
  const info: ImageInfoView = core.info;
  const name = (address: number, length: number): string | undefined =>
    length === 0 ? undefined : decodeName(core.bytes(address, length));
  const incompatible = info.incompatibleFeaturesBig;
  const compatible = info.compatibleFeaturesBig;
  return {
    version: info.version as 2 | 3,
    virtualSize: Number(info.virtualSizeBig),
    clusterSize: 2 ** info.clusterBits,
    fileLength: info.fileLength,
    refcountBits: 2 ** info.refcountOrder,
    lazyRefcounts: (compatible & COMPATIBLE_LAZY_REFCOUNTS) !== 0n,
    extendedL2: (incompatible & INCOMPATIBLE_EXTENDED_L2) !== 0n,
    dirty: (incompatible & INCOMPATIBLE_DIRTY) !== 0n,
    corrupt: (incompatible & INCOMPATIBLE_CORRUPT) !== 0n,
    compressionType: info.compressionType === 1 ? 'zstd' : 'zlib',
    encryption: ENCRYPTION[info.cryptMethod] ?? 'none',
    encryptionHeader:
      info.encryptionHeaderLengthBig === 0n
        ? undefined
        : { offset: info.encryptionHeaderOffsetBig, length: info.encryptionHeaderLengthBig },
    snapshotCount: info.snapshotCount,
    hasBitmaps: (info.hasBitmaps & 1) !== 0,
    hasDataFile: (incompatible & INCOMPATIBLE_DATA_FILE) !== 0n,
    dataFileRaw: (info.autoclearFeaturesBig & AUTOCLEAR_RAW_DATA) !== 0n,
    backingFile: name(info.backingFileAddress, info.backingFileLength),
    backingFormat: name(info.backingFormatAddress, info.backingFormatLength),
    dataFile: name(info.dataFileAddress, info.dataFileLength),
    incompatibleFeatures: incompatible,
    compatibleFeatures: compatible,
    autoclearFeatures: info.autoclearFeaturesBig,
    l1Size: info.l1Size,
    l1TableOffset: info.l1TableOffset,
    refcountTableOffset: info.refcountTableOffset,
    refcountTableClusters: info.refcountTableClusters,
  };
}
