/** What is wrong with a header, in the words by which QEMU refuses it. */

import { Field, Structure } from '../abi.js';
import type { CorralError } from '../errors.js';

/** Fields about which there is one thing to say. */
const WORDS: Readonly<Record<number, string>> = {
  [Field.BackingFileLength]: 'Backing file name too long',
  [Field.L1Size]: 'Active L1 table too large',
  [Field.L1TableOffset]: 'Active L1 table offset invalid',
  [Field.RefcountTableOffset]: 'Reference count table offset invalid',
  [Field.SnapshotCount]: 'Snapshot table too large',
  [Field.SnapshotsOffset]: 'Snapshot table offset invalid',
  [Field.RefcountOrder]: 'Reference count entry width too large; may not exceed 64 bits',
  [Field.ExtensionLength]: 'Header extension too large',
};
/** Bytes: longer headers are not too short. */
const HEADER_LENGTH = 104n;
/** Bytes of a disk for which no L1 table of the default cluster size can be counted. */
const TOO_BIG = 1n << 60n;

/** The reason alone; undefined where the error is not about a field of the header, or QEMU has no words for it. */
export function headerWords({ code, details }: CorralError): string | undefined {
  const { structureCode, fieldCode = Field.None, found = 0n, limit } = details;
  if (code === 'ERR_UNSUPPORTED' && fieldCode === Field.CorruptBit && details.backingFile === undefined) {
    return 'qcow2: Image is corrupt; cannot be opened read/write';
  }
  if (code !== 'ERR_IMAGE_CORRUPT' || details.backingFile !== undefined) return undefined;
  if (structureCode !== Structure.Header && structureCode !== Structure.HeaderExtension) return undefined;
  switch (fieldCode) {
    case Field.BackingFileOffset:
      return found === limit ? 'Backing file name too long' : 'Invalid backing file offset';
    case Field.ClusterBits:
      return `Unsupported cluster size: 2^${found}`;
    case Field.Size:
      return found >= TOO_BIG ? 'Image is too big' : 'L1 table is too small';
    case Field.CryptMethod:
      return `Unsupported encryption method ${found}`;
    case Field.RefcountTableClusters:
      return found === 0n ? 'Image does not contain a reference count table' : 'Reference count table too large';
    case Field.HeaderLength:
      return found < HEADER_LENGTH ? 'qcow2 header too short' : 'qcow2 header exceeds cluster size';
    case Field.CompressionType:
      return `qcow2: unknown compression type: ${found}`;
    default:
      return WORDS[fieldCode];
  }
}
