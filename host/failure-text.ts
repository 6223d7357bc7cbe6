/** From the core's failure record to a `CorralError`: one line that says what was wrong and where. */

import { type FailureView, Field, Status, Structure } from './abi.js';
import { CorralError, type CorralErrorCode } from './errors.js';

const NOWHERE = 0xffffffffffffffffn;

const CODES: Readonly<Record<number, CorralErrorCode>> = {
  [Status.Invalid]: 'ERR_INVALID_ARGUMENT',
  [Status.OutOfRange]: 'ERR_OUT_OF_RANGE',
  [Status.ReadOnly]: 'ERR_READ_ONLY',
  [Status.NotQcow2]: 'ERR_NOT_QCOW2',
  [Status.Unsupported]: 'ERR_UNSUPPORTED',
  [Status.Corrupt]: 'ERR_IMAGE_CORRUPT',
  [Status.InputOutput]: 'ERR_IO',
  [Status.NoSpace]: 'ERR_NO_SPACE',
  [Status.Cancelled]: 'ERR_CANCELLED',
  [Status.TooLarge]: 'ERR_TOO_LARGE',
  [Status.Broken]: 'ERR_BROKEN',
  [Status.NotFound]: 'ERR_NOT_FOUND',
  [Status.Exists]: 'ERR_EXISTS',
};

const STRUCTURES: Readonly<Record<number, string>> = {
  [Structure.Header]: 'header',
  [Structure.HeaderExtension]: 'header extension',
  [Structure.L1Table]: 'L1 table',
  [Structure.L2Table]: 'L2 table',
  [Structure.RefcountTable]: 'refcount table',
  [Structure.RefcountBlock]: 'refcount block',
  [Structure.SnapshotTable]: 'snapshot table',
  [Structure.DataCluster]: 'data cluster',
  [Structure.File]: 'file',
  [Structure.Request]: 'request',
  [Structure.BitmapDirectory]: 'bitmap directory',
  [Structure.BitmapTable]: 'bitmap table',
  [Structure.BitmapBits]: 'bitmap',
  [Structure.BackingFile]: 'backing file',
};

/** Fields whose name in a message is not simply their name in words. */
const FIELDS: Readonly<Record<number, string>> = {
  [Field.IncompatibleFeatures]: 'incompatible features',
  [Field.CompatibleFeatures]: 'compatible features',
  [Field.AutoclearFeatures]: 'autoclear features',
  [Field.L1Size]: 'L1 table size',
  [Field.L1TableOffset]: 'L1 table offset',
  [Field.Size]: 'virtual size',
  [Field.ExtendedL2]: 'extended L2 entries',
  [Field.DataFile]: 'external data file',
  [Field.BackingFile]: 'backing file',
  [Field.Compression]: 'compressed clusters',
  [Field.InternalSnapshots]: 'internal snapshots',
  [Field.Bitmaps]: 'persistent bitmaps',
  [Field.Dirty]: 'dirty bit',
  [Field.CorruptBit]: 'corrupt bit',
  [Field.ReservedBits]: 'reserved bits',
  [Field.Refcount]: 'shared clusters',
  [Field.Copied]: 'COPIED flag',
  [Field.Subclusters]: 'subcluster bitmap',
};

const FIELD_NAMES = new Map<number, string>(Object.entries(Field).map(([name, value]) => [value, name]));

/** Builds the error. `name` is the feature's name from the image, for an unknown incompatible feature; `cause` the host's error. */
export function errorFromFailure(status: number, failure: FailureView, name: string, cause: unknown): CorralError {
  const structure = STRUCTURES[failure.structure];
  const field = fieldText(failure.field);
  const hostOffset = failure.hostOffsetBig;
  const guestOffset = failure.guestOffsetBig;
  const found = failure.foundBig;
  const limit = failure.limitBig;
  const code = isMissing(status, failure) ? 'ERR_NOT_FOUND' : (CODES[status] ?? 'ERR_INTERNAL');
  const guest = guestOffset === NOWHERE ? undefined : guestOffset;
  return new CorralError(code, {
    reason: text(status, failure, name, guest, cause),
    structure,
    structureCode: failure.structure,
    field: failure.field === Field.None ? undefined : field,
    fieldCode: failure.field,
    hostOffset: structure === undefined || failure.structure === Structure.Request ? undefined : hostOffset,
    guestOffset: guest,
    found,
    limit,
    cause,
  });
}

/** The request named a snapshot that is not there. */
function isMissing(status: number, failure: FailureView): boolean {
  return status === Status.Invalid && failure.structure === Structure.SnapshotTable;
}

function text(
  status: number,
  failure: FailureView,
  name: string,
  guestOffset: bigint | undefined,
  cause: unknown,
): string {
  const structure = STRUCTURES[failure.structure] ?? 'image';
  const field = fieldText(failure.field);
  const at = `at file offset ${failure.hostOffsetBig}`;
  const guest = guestOffset === undefined ? '' : ` (guest offset ${guestOffset})`;
  switch (status) {
    case Status.NotQcow2:
      return 'Image is not in qcow2 format';
    case Status.Unsupported:
      return unsupportedText(failure, name, field, guest);
    case Status.Corrupt:
      if (failure.field === Field.SnapshotExtraData) return extraDataText(failure);
      return corruptText(failure, structure, field, at, guest, cause);
    case Status.InputOutput:
    case Status.NoSpace: {
      const why =
        cause instanceof Error
          ? cause.message
          : status === Status.NoSpace
            ? 'No space left on device'
            : 'Input/output error';
      return `${why} (${structure} ${at}${guest})`;
    }
    case Status.OutOfRange:
      return `Request of ${failure.foundBig} bytes${guest} reaches beyond the end of the disk (${failure.limitBig} bytes)`;
    case Status.ReadOnly:
      return 'The image is open read-only';
    case Status.Cancelled:
      return 'The operation was cancelled';
    case Status.Broken:
      return 'An earlier flush failed: what is on disk is unknown, so nothing more is written';
    case Status.NotFound:
      return 'What was named is not there';
    case Status.Exists:
      return 'What was to be made is there already';
    case Status.TooLarge:
      return tooLargeText(failure, structure, field, at);
    case Status.Invalid:
      if (isMissing(status, failure)) return 'Snapshot not found';
      if (failure.field === Field.BitmapInUse) return `Bitmap '${name}' is inconsistent and cannot be used`;
      return `Invalid ${field}: ${failure.foundBig} (limit ${failure.limitBig})`;
    default:
      return `The engine failed with status ${status}`;
  }
}

function tooLargeText(failure: FailureView, structure: string, field: string, at: string): string {
  switch (failure.field) {
    case Field.Refcount:
      return `Refcount of the cluster ${at} would overflow: ${failure.limitBig} is the largest that the image's refcounts hold`;
    case Field.RefcountBits:
      return `Cannot decrease refcount entry width to ${failure.limitBig.toString(2).length} bits: Cluster at offset 0x${failure.hostOffsetBig.toString(16)} has a refcount of ${failure.foundBig}`;
    case Field.BitmapGranularity:
      return 'Too much space will be occupied by the bitmap. Use larger granularity';
    case Field.HeaderRoom:
      return 'There is no room in the header for another extension';
    case Field.BitmapCount:
      return `Too many bitmaps: ${failure.foundBig}, at most ${failure.limitBig}`;
    default:
      return `${structure} ${field} is too large: ${failure.foundBig}, at most ${failure.limitBig} (${at})`;
  }
}

function unsupportedText(failure: FailureView, name: string, field: string, guest: string): string {
  switch (failure.field) {
    case Field.Version:
      return `Unsupported qcow2 version ${failure.foundBig}`;
    case Field.IncompatibleFeatures:
      return name !== ''
        ? `Unsupported qcow2 feature(s): ${name}`
        : `Unsupported qcow2 feature(s): Unknown incompatible feature: ${failure.foundBig.toString(16)}`;
    case Field.Dirty:
      return 'Image was not closed cleanly (dirty bit): it must be repaired before it is written';
    case Field.CorruptBit:
      return 'Image is corrupt; cannot be opened read/write';
    case Field.CompatibleFeatures:
      return 'Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level';
    case Field.InternalSnapshots:
      return `${failure.structure === Structure.Request ? 'Checking' : 'Writing to'} an image with ${field} is not supported yet`;
    case Field.Bitmaps:
      return 'Device has active dirty bitmaps';
    case Field.SizeOfSnapshots:
      return "Can't resize a v2 image which has snapshots";
    case Field.NewerFeatures:
      return downgradeText(failure.foundBig);
    case Field.NewerCompression:
      return 'Cannot downgrade an image with zstd compression type and existing compressed clusters';
    case Field.NewerSnapshots:
      return 'Internal snapshots prevent downgrade of image';
    case Field.NewerBitmaps:
      return 'Cannot downgrade an image with persistent bitmaps';
    case Field.WrongRefcounts:
      return `Cannot downgrade an image with wrong refcounts: the cluster at file offset ${failure.hostOffsetBig} has ${failure.foundBig}, and ${failure.limitBig} references. It must be repaired first`;
    case Field.SnapshotOfDataFile:
      return 'Operation not supported: an image with an external data file has no internal snapshots';
    case Field.BitmapName:
      return 'Cannot store dirty bitmaps in qcow2 v2 files';
    case Field.BitmapExtraData:
      return 'Bitmap extra data is not supported';
    case Field.Refcount:
      return `Writing to ${field} is not supported yet${guest}`;
    default:
      return `Not supported yet: ${field}${guest}`;
  }
}

function extraDataText({ foundBig }: FailureView): string {
  return `Too much extra metadata in snapshot table entry ${foundBig} (a repair of everything cuts it off)`;
}

function downgradeText(features: bigint): string {
  const DATA_FILE = 4n;
  if ((features & DATA_FILE) !== 0n) return 'Cannot downgrade an image with a data file';
  return `Cannot downgrade an image with incompatible features 0x${features.toString(16)} set`;
}

function corruptText(
  failure: FailureView,
  structure: string,
  field: string,
  at: string,
  guest: string,
  cause: unknown,
): string {
  const found = failure.foundBig;
  switch (failure.field) {
    case Field.Compression:
      return `Image is corrupt: the compressed cluster ${at} cannot be decompressed${guest}${cause instanceof Error ? `: ${cause.message}` : ''}`;
    case Field.CorruptBit:
      return 'Image is corrupt: nothing more is written to it before it is repaired';
    case Field.Encryption:
      return `Image is corrupt: its encryption method and the header extension that names a LUKS header do not agree (offset ${found})`;
    case Field.Truncated:
      return `Image is truncated: the file has ${found} bytes, the header needs ${failure.limitBig}`;
    case Field.Overlap:
      return `Image is corrupt: ${structure} ${at} overlaps another structure${guest}`;
    case Field.Offset:
      return `Image is corrupt: ${structure} entry 0x${found.toString(16)} ${at} points outside the file (${failure.limitBig} bytes)${guest}`;
    case Field.Alignment:
    case Field.ReservedBits:
      return `Image is corrupt: ${structure} entry 0x${found.toString(16)} ${at} has wrong ${field}${guest}`;
    default:
      return `Image is corrupt: ${structure} ${field} is ${found}, limit ${failure.limitBig} (${at})${guest}`;
  }
}

/** "RefcountTableOffset" → "refcount table offset". */
function fieldText(field: number): string {
  return (
    FIELDS[field] ??
    (FIELD_NAMES.get(field) ?? 'field').replace(/(?!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).toLowerCase()
  );
}
