/** What becomes of a file as a block device, whatever is in it. */
import type { ImageFacts } from '../image-facts.js';

/** Numbers are bytes. */
export interface DiskFacts {
  readonly virtualSize: number;
  /** What is allocated, and given back, at a time. */
  readonly clusterSize: number;
  /** Of an image's header; undefined for a raw disk. */
  readonly image: ImageFacts | undefined;
}

/** What a file system gives back at a time, mostly. */
const RAW_UNIT = 4096;

export function imageDisk(image: ImageFacts): DiskFacts {
  return { virtualSize: image.virtualSize, clusterSize: image.clusterSize, image };
}

/** @param length of the file */
export function rawDisk(length: number): DiskFacts {
  return { virtualSize: length, clusterSize: RAW_UNIT, image: undefined };
}
