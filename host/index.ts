/** The portable library: no Node import below this file. */

export type { BitmapFacts, BitmapOptions, Bitmaps, DirtyRange } from './bitmaps.js';
export type { BlockFile } from './block-file.js';
export type { CacheMode } from './cache-mode.js';
export { type CacheFacts, type CacheSizeOptions, cacheFacts } from './cache-size.js';
export { type ChainOptions, type Layer, layersOf } from './chain.js';
export { type ChainExtent, mapChain } from './chain-map.js';
export type { CheckFinding, CheckReport } from './check-report.js';
export type { Codec, CompressionType } from './codec/codec.js';
export type { PassDiscard } from './core-instance.js';
export type { CreateImageOptions } from './create-image.js';
export { CorralError, type CorralErrorCode, type CorralErrorDetails } from './errors.js';
export { HttpFile, type HttpFileOptions } from './http-file.js';
export { Image } from './image.js';
export type { ImageFacts } from './image-facts.js';
export type { ImageStatistics } from './image-statistics.js';
export { type InspectLimits, type InspectOptions, inspect } from './inspect/inspect.js';
export { type Policy, type PolicyName, parsePolicy } from './inspect/policy.js';
export type { InspectReport } from './inspect/report.js';
export type { MapExtent } from './map-extent.js';
export { MemoryFile } from './memory-file.js';
export { listGate, type NamedFile, type OpenGate } from './open-gate.js';
export type { OpenOptions } from './open-options.js';
export type { OverlapCheckOption, OverlapLevel, OverlapStructure } from './overlap-check.js';
export type { Preallocation } from './preallocate.js';
export { type Repair, type RepairKind, type RepairOptions, repairImage } from './repair.js';
export type { NewSnapshot, Snapshot, SnapshotSelection } from './snapshot-record.js';
export type { Snapshots } from './snapshots.js';
