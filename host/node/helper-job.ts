/** What an operation of the core wants of a ring's helper. */
import { type ImageInfoView, OperationKind, type OperationView } from '../abi.js';
import type { HelperJob } from './helper-messages.js';

/** Largest file offset that numbers hold. */
const MAXIMUM_OFFSET = BigInt(Number.MAX_SAFE_INTEGER);
const MAXIMUM_CLUSTER_BITS = 21;

/**
 * The job of an operation of so many bytes. Record and info come out of the sandbox: undefined when they ask for what no
 * image can have.
 */
export function jobOf(record: OperationView, kind: number, length: number, info: ImageInfoView): HelperJob | undefined {
  if (record.hostOffsetBig > MAXIMUM_OFFSET) return undefined;
  const { hostOffset, sourceLength, sourceOffset } = record;
  if (kind === OperationKind.ReadBacking) return { kind: 'readBacking', offset: hostOffset, length };
  if (info.clusterBits > MAXIMUM_CLUSTER_BITS) return undefined;
  const clusterSize = 2 ** info.clusterBits;
  // The specification's field holds sectors for two clusters.
  if (sourceLength > 2 * clusterSize || sourceOffset + length > clusterSize) return undefined;
  const type = info.compressionType === 1 ? 'zstd' : 'zlib';
  return { kind: 'decompress', type, clusterSize, hostOffset, sourceLength, sourceOffset, length };
}
