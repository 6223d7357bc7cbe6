/** Lays out the one arena: every record and buffer that an instance will ever use, sized by the host's configuration. */

import { Configuration, ConfigurationFlag, Layout, PAGE_LENGTH, SCRATCH_COUNT, Statistics } from '../abi/configuration';
import { Failure } from '../abi/failure';
import { ImageInfo } from '../abi/image-info';
import { Request } from '../abi/request';
import { Arena, openArena, take } from '../base/arena';
import { WaitList } from '../base/wait-list';
import { openOperations } from '../block';
import { RUN_LIST_LENGTH, RunList } from '../cache/dropped-clusters';
import { slotSize, TableCache } from '../cache/table-cache';
import { SliceList, STAGING_LENGTH, STAGING_MAXIMUM, WriteOrder } from '../cache/write-order';
import { Geometry } from '../format/geometry';
import { BitmapEntry, BitmapState, trackedCapacity, trackedLength } from './bitmap-state';
import { EXCLUSIVE_LENGTH } from './exclusive';
import { HEADER_SECTOR_LENGTH } from './header-sector';
import { Image, ImageState, Run } from './image';
import { MEMO_LENGTH } from './l1-memo';
import { Region } from './region-state';
import { TableMap, WINDOW_LENGTH } from './table-map-state';
import { TASK_FAILURE_OFFSET, TASK_FOLLOWERS_OFFSET, TASK_OPERATIONS, TASK_SIZE, Task } from './task';

/** Largest slice, and so the largest that the cache has to be ready for. */
const MAXIMUM_SLICE: u32 = 4096;
/** Slices that one task may need at the same time (L1, L2, refcount table, refcount block). */
const SLICES_PER_TASK: u32 = 4;
/** Tasks of the core's own, behind those of the slots: one lowers refcounts, one sets the dirty bit, one surveys tables. */
const OWN_TASKS: u32 = 3;
/** The table map has one bit for so many bits of the cache, within limits; log2 of the least and the most bits. */
const CACHE_BITS_PER_MAP_BIT: u64 = 16;
const LEAST_MAP_BITS: u32 = 15;
const MOST_MAP_BITS: u32 = 23;
const SPARE_SLICES: u32 = 16;
const REQUEST_SIZE: u64 = 64;
export const MAXIMUM_REQUESTS: u32 = 16385;
/** Counters of requests in flight: two of 4 bytes a stretch, 1024 stretches. */
const FLIGHT_COUNTERS_LENGTH: u64 = 8192;

/** The image with all its parts and the filled layout; null when the memory cannot be had or the numbers make no sense. */
export function configureImage(configuration: Configuration, layout: Layout): Image | null {
  const capacity = configuration.requestCapacity;
  if (capacity === 0 || capacity > MAXIMUM_REQUESTS) return null;
  const arena = openArena();
  const image = changetype<Image>(take(arena, offsetof<Image>()));
  image.state = ImageState.Fresh;
  image.configuration = configuration;
  image.requestCapacity = capacity;

  const tasks = capacity + OWN_TASKS;
  const operationCapacity = tasks * (TASK_OPERATIONS + 1) + STAGING_MAXIMUM + 2;
  const operations = openOperations(arena, operationCapacity);
  if (operations === null) return null;
  image.operations = operations;
  image.geometry = changetype<Geometry>(take(arena, offsetof<Geometry>()));
  image.failure = changetype<Failure>(take(arena, offsetof<Failure>()));
  image.info = changetype<ImageInfo>(take(arena, offsetof<ImageInfo>()));
  image.statistics = changetype<Statistics>(take(arena, offsetof<Statistics>()));
  image.run = changetype<Run>(take(arena, offsetof<Run>()));
  image.ready = takeWaitList(arena);
  image.tableWaiters = takeWaitList(arena);
  image.growthWaiters = takeWaitList(arena);
  image.settleWaiters = takeWaitList(arena);
  image.gateWaiters = takeWaitList(arena);
  image.idleWaiters = takeWaitList(arena);
  image.exclusiveMemory = take(arena, EXCLUSIVE_LENGTH);
  image.headerWaiters = takeWaitList(arena);
  image.flightCounts = take(arena, FLIGHT_COUNTERS_LENGTH);
  image.l1Memo = take(arena, MEMO_LENGTH);
  image.scratch = take(arena, MAXIMUM_SLICE);
  image.headerSector = take(arena, HEADER_SECTOR_LENGTH);
  image.scratchWaiters = takeWaitList(arena);
  image.readWaiters = takeWaitList(arena);
  image.freeScratches = (u32(1) << SCRATCH_COUNT) - 1;
  image.tableScratch = take(arena, MAXIMUM_SLICE);
  image.page = take(arena, PAGE_LENGTH);

  // Whoever sets the dirty bit looks at no table; the surveyor is content with one of the spare slices.
  const least: u32 = ((tasks - 2) * SLICES_PER_TASK + SPARE_SLICES) * slotSize(MAXIMUM_SLICE);
  image.cacheLength = max(configuration.cacheSize, least);
  image.cacheMemory = take(arena, image.cacheLength);
  image.bitmaps = takeBitmaps(arena, trackedCapacity(image.cacheLength));
  image.checkLength = configuration.checkSize;
  image.checkMemory = take(arena, image.checkLength);
  const requests = take(arena, u64(tasks) * REQUEST_SIZE);
  if (image.cacheMemory === 0 || image.checkMemory === 0 || requests === 0) return null;
  if (!takeTasks(arena, image, requests)) return null;
  image.tables = takeTableMap(arena, image);
  image.cache = takeCache(arena, image);
  image.order = takeWriteOrder(arena, image);
  image.spare = takeRunList(arena);
  image.released = takeRunList(arena);
  image.region = changetype<Region>(take(arena, offsetof<Region>()));
  if (image.order.freeSlots === 0 || image.spare.runs === 0 || image.released.runs === 0) return null;
  if (image.tables.bits === 0 || image.tables.window === 0) return null;
  if (image.bitmaps.tracked === 0) return null;

  layout.requests = u32(requests);
  layout.requestCapacity = capacity;
  layout.operations = u32(operations.records);
  layout.operationCapacity = operationCapacity;
  layout.failure = u32(changetype<usize>(image.failure));
  layout.info = u32(changetype<usize>(image.info));
  layout.page = u32(image.page);
  layout.statistics = u32(changetype<usize>(image.statistics));
  return image;
}

export function taskAt(image: Image, slot: u32): Task {
  return changetype<Task>(image.tasks + usize(slot) * TASK_SIZE);
}

function takeTasks(arena: Arena, image: Image, requests: usize): bool {
  image.tasks = take(arena, u64(image.requestCapacity + OWN_TASKS) * TASK_SIZE);
  if (image.tasks === 0) return false;
  for (let slot: u32 = 0; slot < image.requestCapacity + OWN_TASKS; slot++) {
    const task = taskAt(image, slot);
    const address = changetype<usize>(task);
    task.slot = slot;
    task.request = changetype<Request>(requests + usize(slot) * usize(REQUEST_SIZE));
    task.failure = changetype<Failure>(address + TASK_FAILURE_OFFSET);
    task.followers = changetype<WaitList>(address + TASK_FOLLOWERS_OFFSET);
  }
  return true;
}

function takeCache(arena: Arena, image: Image): TableCache {
  const cache = changetype<TableCache>(take(arena, offsetof<TableCache>()));
  cache.operations = image.operations;
  cache.failure = image.failure;
  cache.ready = image.ready;
  cache.slotWaiters = takeWaitList(arena);
  return cache;
}

function takeWriteOrder(arena: Arena, image: Image): WriteOrder {
  const order = changetype<WriteOrder>(take(arena, offsetof<WriteOrder>()));
  order.cache = image.cache;
  order.operations = image.operations;
  order.serving = takeWaitList(arena);
  order.waiting = takeWaitList(arena);
  order.dirtyBlocks = takeSliceList(arena);
  order.dirtyTable = takeSliceList(arena);
  order.dirtyMappings = takeSliceList(arena);
  order.stagedTable = takeSliceList(arena);
  order.stagedMappings = takeSliceList(arena);
  order.dropWaiters = takeWaitList(arena);
  order.dropped = takeRunList(arena);
  order.settling = takeRunList(arena);
  order.reclaimable = takeRunList(arena);
  order.quietRequest = (image.configuration.flags & ConfigurationFlag.DiscardRequest) === 0;
  order.quietOther = (image.configuration.flags & ConfigurationFlag.DiscardOther) === 0;
  order.staging = take(arena, STAGING_LENGTH);
  order.freeSlots = order.staging === 0 ? 0 : take(arena, STAGING_MAXIMUM * sizeof<usize>());
  return order;
}

function takeBitmaps(arena: Arena, capacity: u32): BitmapState {
  const state = changetype<BitmapState>(take(arena, offsetof<BitmapState>()));
  state.markWaiters = takeWaitList(arena);
  state.entry = changetype<BitmapEntry>(take(arena, offsetof<BitmapEntry>()));
  state.capacity = capacity;
  state.tracked = take(arena, trackedLength(capacity));
  return state;
}

function takeTableMap(arena: Arena, image: Image): TableMap {
  const map = changetype<TableMap>(take(arena, offsetof<TableMap>()));
  let sizeBits = LEAST_MAP_BITS;
  while (sizeBits < MOST_MAP_BITS && (u64(1) << sizeBits) * CACHE_BITS_PER_MAP_BIT < u64(image.cacheLength) << 3) {
    sizeBits++;
  }
  map.sizeBits = sizeBits;
  map.bits = take(arena, u64(1) << (sizeBits - 3));
  map.window = take(arena, WINDOW_LENGTH);
  map.waiters = takeWaitList(arena);
  map.surveyor = taskAt(image, image.requestCapacity + OWN_TASKS - 1);
  return map;
}

function takeWaitList(arena: Arena): WaitList {
  return changetype<WaitList>(take(arena, offsetof<WaitList>()));
}

function takeRunList(arena: Arena): RunList {
  const list = changetype<RunList>(take(arena, offsetof<RunList>()));
  list.runs = take(arena, RUN_LIST_LENGTH);
  return list;
}

function takeSliceList(arena: Arena): SliceList {
  return changetype<SliceList>(take(arena, offsetof<SliceList>()));
}
