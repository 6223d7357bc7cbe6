/** What an image says of itself on standard error when a request finds it corrupt, as QEMU's qcow2 driver does. */

import { Field, Structure } from '../../abi.js';
import { CorralError } from '../../errors.js';
import type { ImageFacts } from '../../image-facts.js';

const ENTRY_SIZE = 8;
const OFFSET_BITS = 0xfffffffffffe00n;

/** What a write must not meet. */
const OVERLAPPED: Readonly<Record<number, string>> = {
  [Structure.Header]: 'qcow2_header',
  [Structure.L1Table]: 'active L1 table',
  [Structure.L2Table]: 'active L2 table',
  [Structure.RefcountTable]: 'refcount table',
  [Structure.RefcountBlock]: 'refcount block',
  [Structure.SnapshotTable]: 'snapshot table',
};

/**
 * The line about an error of a request; undefined when the image is not to blame.
 *
 * @param writes whether the request was a change: then the image may have been marked, so that nothing more is written
 */
export function corruptionLine(error: unknown, image: ImageFacts, writes: boolean): string | undefined {
  if (!(error instanceof CorralError) || error.code !== 'ERR_IMAGE_CORRUPT') return undefined;
  const { backingFile, path, fieldCode } = error.details;
  if (backingFile !== undefined || path !== undefined) return undefined;
  // What cannot be read is in nobody's way.
  const marks = writes && (fieldCode === Field.Overlap || fieldCode === Field.Alignment);
  const reason = wordsOf(error, image, marks) ?? error.message.replace(/^Image is corrupt: /, '');
  return marks
    ? `qcow2: Marking image as corrupt: ${reason}; further corruption events will be suppressed`
    : `qcow2: Image is corrupt: ${reason}; further non-fatal corruption events will be suppressed`;
}

function wordsOf({ details }: CorralError, image: ImageFacts, writes: boolean): string | undefined {
  const { structureCode = Structure.None, fieldCode, hostOffset = 0n, guestOffset = 0n, found = 0n } = details;
  const overlapped = OVERLAPPED[structureCode];
  if (fieldCode === Field.Overlap && overlapped !== undefined) {
    return `Preventing invalid write on metadata (overlaps with ${overlapped})`;
  }
  if (fieldCode !== Field.Alignment) return undefined;
  const offset = `offset 0x${(found & OFFSET_BITS).toString(16)} unaligned`;
  const at = Number(hostOffset);
  switch (structureCode) {
    case Structure.L2Table: {
      if (writes) return `Data cluster ${offset} (guest offset: ${hex(Number(guestOffset))})`;
      const inside = at % image.clusterSize;
      const entrySize = image.extendedL2 ? 2 * ENTRY_SIZE : ENTRY_SIZE;
      const place = `L2 offset: ${hex(at - inside)}, L2 index: ${hex(Math.floor(inside / entrySize))}`;
      return `Cluster allocation ${offset} (${place})`;
    }
    case Structure.L1Table:
      return `L2 table ${offset} (L1 index: ${hex((at - image.l1TableOffset) / ENTRY_SIZE)})`;
    case Structure.RefcountTable:
      return `Refblock ${offset} (reftable index: ${hex((at - image.refcountTableOffset) / ENTRY_SIZE)})`;
    default:
      return undefined;
  }
}

/** As C's `%#x`. */
function hex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}
