/** The portable library: no Node import below this file. */

export type { BlockFile } from './block-file.js';
export { CorralError, type CorralErrorCode, type CorralErrorDetails } from './errors.js';
export {
  type CheckFinding,
  type CheckReport,
  type CreateImageOptions,
  Image,
  type ImageStatistics,
  type MapExtent,
  type OpenOptions,
} from './image.js';
export type { ImageFacts } from './image-facts.js';
export { MemoryFile } from './memory-file.js';
