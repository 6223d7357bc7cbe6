/** The state of one open image: everything behind the one context pointer. */

import { Configuration, Statistics } from '../abi/configuration';
import { Failure } from '../abi/failure';
import { ImageInfo } from '../abi/image-info';
import { WaitList } from '../base/wait-list';
import { Operations } from '../block';
import { RunList } from '../cache/dropped-clusters';
import { TableCache } from '../cache/table-cache';
import { WriteOrder } from '../cache/write-order';
import { Geometry } from '../format/geometry';
import { BitmapState } from './bitmap-state';
import { Region } from './region-state';
import { TableMap } from './table-map-state';
import { Task } from './task';

export enum ImageState {
  /** Configured; only Open and Create are taken. */
  Fresh = 0,
  /** Open or Create runs. */
  Opening = 1,
  Open = 2,
  /** Only the header was read. */
  Inspected = 3,
  Closed = 4,
}

/** Host offsets of QCOW2 entries have 56 bits. */
export const MAXIMUM_HOST_OFFSET: u64 = 0x00ffffffffffffff;

/** What a stretch of the guest is, as `mapping.ts` finds it. */
@unmanaged
export class Run {
  /** ExtentKind. */
  kind: u32 = 0;
  /** Refcount one: may be written in place. */
  copied: bool = false;
  /** Bytes from the offset asked for. */
  length: u64 = 0;
  /** Host offset of the byte asked for; 0 when nothing is allocated. */
  hostOffset: u64 = 0;
  /** Compressed clusters only: bytes of the compressed data. */
  compressedLength: u32 = 0;
  /** L2 slice and entry of the first cluster; null without an L2 table. */
  sliceOffset: u64 = 0;
  sliceIndex: u32 = 0;
  hasTable: bool = false;
  /** The L2 table belongs to a snapshot too: it must be copied before it is changed. */
  tableShared: bool = false;
}

@unmanaged
export class Image {
  state: ImageState = ImageState.Fresh;
  writable: bool = false;
  /** What is not allocated is read from a backing file. */
  hasBacking: bool = false;
  /** Opened for its tables only: what would be guest data is not looked at. */
  tablesOnly: bool = false;
  version: u32 = 0;
  /** Guest data lies in an external data file, each cluster where the guest has it; no refcounts count it. */
  hasDataFile: bool = false;
  /** That file is a raw image: what reads as zeros is zeros there too. */
  isDataRaw: bool = false;
  requestCapacity: u32 = 0;
  tasks: usize = 0;
  sequence: u64 = 0;

  configuration: Configuration = changetype<Configuration>(0);
  operations: Operations = changetype<Operations>(0);
  cache: TableCache = changetype<TableCache>(0);
  order: WriteOrder = changetype<WriteOrder>(0);
  geometry: Geometry = changetype<Geometry>(0);
  failure: Failure = changetype<Failure>(0);
  info: ImageInfo = changetype<ImageInfo>(0);
  statistics: Statistics = changetype<Statistics>(0);
  run: Run = changetype<Run>(0);
  /** Woken tasks, in the order in which they go on. */
  ready: WaitList = changetype<WaitList>(0);
  /** Page of PAGE_LENGTH bytes for control requests, and a scratch buffer of one slice for the growth of tables. */
  page: usize = 0;
  scratch: usize = 0;
  /** Memory for the cache, divided when the slice size is known, and for counting references. */
  cacheMemory: usize = 0;
  cacheLength: u32 = 0;
  checkLength: u32 = 0;
  checkMemory: usize = 0;

  /** See bitmap-state.ts. */
  bitmaps: BitmapState = changetype<BitmapState>(0);

  virtualSize: u64 = 0;
  /** Bytes that the file has as far as the core knows: what was found at open, and what was written since. */
  fileLength: u64 = 0;
  /** As `fileLength`, of the external data file. */
  dataFileLength: u64 = 0;
  /** Snapshots behind the limits of their table, which a repair drops: `info.snapshotCount` is without them. */
  overhangingSnapshots: u32 = 0;
  /** What is read is a snapshot, not the disk as it is now. */
  snapshotSelected: bool = false;
  l1Offset: u64 = 0;
  l1Size: u32 = 0;
  refcountTableClusters: u32 = 0;
  refcountTableOffset: u64 = 0;

  /** See l1-memo.ts. */
  l1Memo: usize = 0;

  /** From here on every byte of the file that the core has not written reads as zero; all ones when nothing does. */
  virginOffset: u64 = 0;
  /** Next cluster that was never looked at, at the end of the file. */
  frontier: u64 = 0;
  /** No cluster from here on can ever be allocated. */
  frontierEnd: u64 = 0;
  /** Clusters below the frontier of the opening are searched for free ones once: from here to there. */
  scanCluster: u64 = 0;
  scanEnd: u64 = 0;
  /** Answer of the allocator. */
  allocatedOffset: u64 = 0;
  allocatedCount: u32 = 0;
  allocatedTotal: u64 = 0;
  /** Where the next compressed cluster goes; 0 when it needs a new host cluster. Answer: where the last one went. */
  packOffset: u64 = 0;
  packedOffset: u64 = 0;
  /** What was allocated was never written: it reads as zeros. */
  allocatedVirgin: bool = false;
  /** Clusters that became free since the opening and may be used again. */
  spare: RunList = changetype<RunList>(0);
  /** Requests that wait until nothing is on its way to being free. */
  settleWaiters: WaitList = changetype<WaitList>(0);

  /** Bits of the scratch buffers that are free, and who waits for one. */
  freeScratches: u32 = 0;
  scratchWaiters: WaitList = changetype<WaitList>(0);
  /** Reads that may still look at clusters which the reclaimer wants to free, and the reclaimer when it waits. */
  heldReads: u32 = 0;
  readWaiters: WaitList = changetype<WaitList>(0);

  /** The task that makes an L2 table; the others that need one wait. */
  tableOwner: Task | null = null;
  /** Slices of a shared table that its owner has copied, and the buffer through which it does. */
  tableCursor: u64 = 0;
  tableScratch: usize = 0;
  tableWaiters: WaitList = changetype<WaitList>(0);
  /** The task that enlarges the refcount structures; the others that allocate wait. */
  growthOwner: Task | null = null;
  growthWaiters: WaitList = changetype<WaitList>(0);
  growthStage: u32 = 0;
  growthBlockCount: u32 = 0;
  growthCluster: u64 = 0;
  growthCursor: u64 = 0;
  growthTableClusters: u64 = 0;
  growthFirstBlock: u64 = 0;
  /** The first sector of the file, the task that changes it, and those that want to: see header-sector.ts. */
  headerSector: usize = 0;
  headerOwner: Task | null = null;
  headerWaiters: WaitList = changetype<WaitList>(0);
  headerStage: u32 = 0;
  /** See overlap.ts. */
  tables: TableMap = changetype<TableMap>(0);
  /** A write has met tables that contradict each other: see corrupt-bit.ts. */
  corrupt: bool = false;
  /** The dirty bit could not be set: refcounts stay as they are without lazy refcounts. */
  lazyFailed: bool = false;
  /** See region.ts. */
  region: Region = changetype<Region>(0);
  /** See release.ts: clusters that nothing on disk refers to any more. */
  released: RunList = changetype<RunList>(0);
  /** First of the tasks whose new clusters are not linked yet. */
  allocating: Task | null = null;

  /** Requests in flight in the order of submission, and how many of them touch each stretch of the disk. */
  flightHead: Task | null = null;
  flightTail: Task | null = null;
  flightCounts: usize = 0;
  flightWide: u32 = 0;
  flightWideWrites: u32 = 0;
  /** See exclusive.ts: the control verb that is or will be alone, who waits at the gate, who waits for it to be alone. */
  exclusiveOwner: Task | null = null;
  gateWaiters: WaitList = changetype<WaitList>(0);
  idleWaiters: WaitList = changetype<WaitList>(0);
  exclusiveMemory: usize = 0;
  /** Requests at work that look at tables and are no guest requests. */
  lookers: u32 = 0;
  waits: u64 = 0;
}

/** Refcount table entries that there is room for. */
export function refcountTableEntries(image: Image): u64 {
  return u64(image.refcountTableClusters) << (image.geometry.clusterBits - 3);
}

/** Bytes of the file that guest data lies in. */
export function dataLength(image: Image): u64 {
  return image.hasDataFile ? image.dataFileLength : image.fileLength;
}

export function clusterStart(image: Image, offset: u64): u64 {
  return offset & ~(u64(image.geometry.clusterSize) - 1);
}
