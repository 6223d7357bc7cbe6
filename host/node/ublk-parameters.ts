/** What kind of block device an image becomes. */
import { isWriteThrough } from '../cache-mode.js';
import { CorralError } from '../errors.js';
import type { UblkInfo, UblkParameters } from './addon.js';
import type { DiskFacts } from './disk-facts.js';
import type { CheckedOptions } from './ublk-options.js';

const PHYSICAL_BLOCK_SIZE = 4096;

/**
 * Bytes of the device: the disk's whole blocks.
 *
 * @throws CorralError ERR_INVALID_ARGUMENT when larger blocks than usual would hide the disk's end
 */
export function deviceSizeOf({ virtualSize }: DiskFacts, { blockSize }: CheckedOptions): number {
  const rest = virtualSize % blockSize;
  if (rest !== 0 && blockSize > 512) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      reason: `The disk's size, ${virtualSize} bytes, is not a multiple of the block size ${blockSize}`,
    });
  }
  return virtualSize - rest;
}

export function parametersOf(
  { clusterSize }: DiskFacts,
  { readOnly, blockSize, cache, discard }: CheckedOptions,
  { maxIoBytes }: Pick<UblkInfo, 'maxIoBytes'>,
  size: number,
): UblkParameters {
  const flushes = cache !== 'unsafe' && !isWriteThrough(cache);
  return {
    size,
    maxIoBytes,
    readOnly,
    logicalBlockSize: blockSize,
    physicalBlockSize: PHYSICAL_BLOCK_SIZE,
    ioMin: PHYSICAL_BLOCK_SIZE,
    ioOpt: Math.max(clusterSize, PHYSICAL_BLOCK_SIZE),
    // Where every answer is durable, or no flush does anything, the kernel need not ask.
    volatileCache: flushes,
    fua: flushes,
    // Only whole clusters are ever freed.
    discardGranularity: readOnly ? 0 : Math.max(clusterSize, blockSize),
    discards: discard === 'unmap',
  };
}
