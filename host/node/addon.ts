/** Loads the native addon and gives it types. Linux only: where it is missing, everything but ublk and the ring works. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ABI_HASH } from '../abi.js';
import { CorralError } from '../errors.js';

/** First number of an outgoing entry. */
export enum OutgoingType {
  /** Carry out operation record a. */
  Operation = 1,
  /** Zero c bytes at offset b of the guest buffer of slot a. */
  Fill = 2,
  /** The kernel's request in slot a is done: b is a negative errno, or the bytes moved (0: all of them). */
  Finish = 3,
}

/** First number of an event. */
export enum EventType {
  /** Operation a ended with Status b; c is an errno or 0. */
  Operation = 1,
  /** The kernel has a request in slot a; its Request record is filled in. */
  Request = 2,
  /** Somebody called `wake`. */
  Control = 3,
  /** Every tag of the ublk queue came back for good; a is an errno, or 0 when the device was stopped in order. */
  QueueStopped = 4,
  /** Operation a (a Decompress or ReadBacking, as c says) is the host's: `deliver` the b bytes that it wants. */
  Help = 5,
  /** The kernel's request for slot a, of b (operation and flags) and c sectors, made no sense and got an error. */
  Malformed = 6,
}

/** Numbers of an outgoing entry or event: its type, a, b and c. The first quad of either array is its head. */
export const QUAD = 4;

/** How a turn of the ring ends. */
export enum TurnMode {
  /** With what is there. */
  Poll = 0,
  /** With at least one event. */
  Wait = 1,
  /** With nothing: the entries are taken over, and what they lead to comes with the next turn. */
  Apply = 2,
}

/** Where a ring finds the records of a core. */
export interface CoreMemory {
  /** The core's memory, with its records at these addresses; all of it as bytes where threads share it. */
  memory: ArrayBuffer | Uint8Array;
  operations: number;
  operationCapacity: number;
  requests: number;
  requestCapacity: number;
}

/** Memory that a ring shares with its host. None of it may be detached while the ring lives. */
export interface RingOptions extends CoreMemory {
  /** What the host asks for: the head (number of entries, TurnMode, -, -), then the entries. */
  outgoing: Int32Array;
  /** What has happened: the head (number of events, -, -, -), then the events. Valid until the next turn but `Apply`. */
  events: Int32Array;
}

/** How guest bytes get to the file and back; what the device was made for. */
export enum DataPath {
  /** The driver copies them between its pages and a buffer of each tag. */
  Plain = 1,
  /** They are copied here, by reads and writes of the char device. */
  UserCopy = 2,
  /** The pages of a request are in the ring's table of buffers; what must be in memory is copied as with UserCopy. */
  ZeroCopy = 3,
}

/** What a queue serves. */
export interface QueueOptions {
  deviceId: number;
  /** @default 0 */
  queueId?: number;
  /** Tags; tag n is request slot firstSlot + n. */
  depth: number;
  /** @default 0 */
  firstSlot?: number;
  /** Bytes of the largest request, a multiple of 4096. */
  maxIoBytes: number;
  /** Bytes of the block device. */
  deviceSize: number;
  /** Zeros that are written may give host clusters back, unless the kernel forbids it. @default true */
  unmap?: boolean;
  /** Every change is durable before it is answered. @default false */
  durable?: boolean;
  /** @default Plain */
  path?: DataPath;
  /** With ZeroCopy: the driver registers each request's buffer, without a command for it. @default false */
  autoBuffers?: boolean;
  /** The calling thread stays on the processors whose requests this queue gets. @default false */
  pinned?: boolean;
  /** Every request is answered at once and nothing is done: measures what the way here costs. @default false */
  answersNothing?: boolean;
}

/** How a ring uses a file. */
export interface FileUse {
  writable: boolean;
  /** A flush of it does nothing. @default false */
  ignoresFlushes?: boolean;
  /**
   * Guest writes to the first sector are to be whole sectors, and get EPERM when one of these would be in it: by turns
   * where a signature begins, its length (a byte each) and its bytes.
   */
  forbidden?: Uint8Array;
}

/** Counters of a ring. */
export interface RingStatistics {
  /** Operations, fills and answers refused because the core asked for what is not its own. */
  violations: number;
  /** Requests of the kernel that made no sense. */
  malformed: number;
  operationsInFlight: number;
  /** IORING_SETUP flags that the kernel took. */
  setupFlags: number;
}

/**
 * One io_uring with an image file and perhaps a ublk queue; used by the thread that made it. Every method throws a
 * `SystemError` when the kernel refuses.
 */
export interface Ring {
  /**
   * Carries out the outgoing entries, hands everything to the kernel, and reports what has happened. A function of its
   * own, without arguments: the call is made once an I/O at low depth, and each number passed would cost as much again.
   */
  readonly turn: () => void;
  /** The image file that operations mean from now on; the ring keeps a descriptor of its own. */
  setFile(descriptor: number, options: FileUse): void;
  /** Likewise the image's external data file. A flush then makes that durable first. */
  setDataFile(descriptor: number, options: FileUse): void;
  /**
   * Another core is in the place of the one before, with as many records. Requests of the kernel that were not submitted
   * to a core stay in their slots. EINVAL while an operation is under way.
   */
  setMemory(memory: CoreMemory): void;
  /**
   * Slot firstSlot + n's guest buffer is `stride` bytes at n * stride. `lengths[n]` is how many of them the request in flight there
   * announced, 0 when there is none; the host keeps it up to date.
   */
  setGuestBuffers(options: { buffer: ArrayBuffer; stride: number; firstSlot?: number; lengths: Int32Array }): void;
  /**
   * Gives the core its scratch buffers, of so many bytes each: two clusters of the image. Rings that share a core share
   * the memory of all of them.
   */
  setScratch(lengthOrMemory: number | Uint8Array): void;
  /**
   * Ends an operation that came as a Help event with its bytes, which are copied, or without when there are none. Until
   * then its buffer stays in use, so that the answer of its request waits. The host tells the core by itself.
   *
   * @returns false when no such operation waits, or wants another number of bytes: nothing was copied
   */
  deliver(operation: number, bytes: Uint8Array | null): boolean;
  /**
   * Opens `/dev/ublkcN` and fetches with every tag. Returns its descriptor: it can be open once only, so further queues are
   * given that as `device`.
   */
  attachQueue(options: QueueOptions & { device?: number | undefined }): number;
  /** The block device is so many bytes long from now on: requests may reach as far. */
  setDeviceSize(size: number): void;
  /**
   * A queue without a kernel, for tests: descriptors of 24 bytes, answers one number a tag. Needs guest buffers; `device`
   * is a descriptor of any file in the place of the char device.
   */
  pretendQueue(options: QueueOptions & { descriptors: ArrayBuffer; answers: Int32Array; device?: number }): void;
  /** A fetch of the pretended queue ends with this result in the next turn. */
  pretendFetched(tag: number, result: number): void;
  /** Makes a waiting turn return with a Control event. */
  wake(): void;
  /** For a `Waker` in another thread. */
  readonly wakeDescriptor: number;
  /** Waits for the operations under way and gives everything back. */
  close(): void;
  statistics(): RingStatistics;
}

/** Wakes a ring of another thread; may outlive it. Making one throws when the descriptor is not a ring's any more. */
export interface Waker {
  wake(): void;
  close(): void;
}

/** What the ublk driver knows of a device. */
export interface UblkInfo {
  id: number;
  queues: number;
  queueDepth: number;
  maxIoBytes: number;
  /** 0 dead, 1 live, 2 quiesced, 3 failing I/O. */
  state: number;
  /** Process that serves the device, -1 before it starts. */
  serverPid: number;
  /** UBLK_F bits that were granted. */
  flags: number;
  /** As given to `addDevice`, 0 when it was not. */
  mark: number;
  ownerUid: number;
  ownerGid: number;
}

/** What kind of block device it is. Sizes in bytes. */
export interface UblkParameters {
  size: number;
  maxIoBytes: number;
  /** @default false */
  readOnly?: boolean;
  /** @default 512 */
  logicalBlockSize?: number;
  /** @default 4096 */
  physicalBlockSize?: number;
  /** @default physicalBlockSize */
  ioMin?: number;
  /** @default physicalBlockSize */
  ioOpt?: number;
  /** Without it the kernel sends no flushes. @default true */
  volatileCache?: boolean;
  /** Single writes can be asked to be durable. @default true */
  fua?: boolean;
  /** @default false */
  rotational?: boolean;
  /** Bytes; 0 offers neither discards nor write zeroes. @default 0 */
  discardGranularity?: number;
  /** With a granularity: discards are offered, and not write zeroes alone. @default true */
  discards?: boolean;
}

/** Control commands of the ublk driver. Promises are rejected with a `SystemError`. */
export interface UblkControl {
  /** Bits of what the driver can do. */
  getFeatures(): Promise<number>;
  /** Makes `/dev/ublkcN`; says what was granted. */
  addDevice(options: {
    id?: number | undefined;
    queues?: number;
    queueDepth: number;
    maxIoBytes: number;
    flags?: number;
    mark?: number;
  }): Promise<UblkInfo>;
  setParameters(id: number, parameters: UblkParameters): Promise<void>;
  getParameters(id: number): Promise<Required<Omit<UblkParameters, 'discardGranularity' | 'discards'>>>;
  /** Makes `/dev/ublkbN`; needs another thread to be fetching, which serves I/O before this resolves. */
  startDevice(id: number, pid?: number): Promise<void>;
  /** Takes over a device whose server died; EBUSY while that still holds it. Then the queues can be fetched anew. */
  startRecovery(id: number): Promise<void>;
  /** `/dev/ublkbN` goes on; as `startDevice` otherwise. */
  endRecovery(id: number, pid?: number): Promise<void>;
  /** `/dev/ublkbN` has so many bytes from now on. */
  updateSize(id: number, options: { size: number }): Promise<void>;
  /**
   * The queues end as by `stopDevice` once they have answered what they have, for which they get so many milliseconds; but
   * `/dev/ublkbN` stays, and what is asked of it waits for a new server.
   */
  quiesceDevice(id: number, options: { timeout: number }): Promise<void>;
  /** Removes `/dev/ublkbN`; the queue must go on serving until it is stopped. */
  stopDevice(id: number): Promise<void>;
  /** Removes `/dev/ublkcN`; waits until its server has closed it. */
  deleteDevice(id: number): Promise<void>;
  getInfo(id: number): Promise<UblkInfo>;
}

/** What this kernel's io_uring can do. */
export interface RingAbilities {
  /** IORING_SETUP flags that it took. */
  setupFlags: number;
  /** IORING_OP numbers that it knows, ascending; empty when it cannot tell. */
  opcodes: number[];
}

/** How the addon reports what the kernel refused. */
export interface SystemError extends Error {
  /** The call, as in `io_uring_setup`. */
  operation: string;
  /** Positive. */
  errno: number;
  /** As in `ENOENT`. */
  code: string;
}

export interface Addon {
  abiHash: number;
  Ring: new (options: RingOptions) => Ring;
  /** Of another thread's `wakeDescriptor`. */
  Waker: new (
    descriptor: number,
  ) => Waker;
  ublk: UblkControl;
  /** Shared lock on bytes of an open file (F_OFD_SETLK); throws EAGAIN when somebody has an exclusive one. */
  shareLock(descriptor: number, offset: number, length: number): void;
  releaseLock(descriptor: number, offset: number, length: number): void;
  /** True when another open file holds any lock in this range. */
  isLockedByOthers(descriptor: number, offset: number, length: number): boolean;
  /** Makes a hole in an open file; its length stays. Waits as long as the file system does. */
  punchHole(descriptor: number, offset: number, length: number): void;
  /** Makes a range of an open file read as zeros, with space allocated; the file grows to hold it. */
  zeroRange(descriptor: number, offset: number, length: number): void;
  /**
   * Reads as much as the page cache has, and starts no I/O: the number of bytes, 0 at the end of the file, or a negative
   * errno.
   */
  readCached(descriptor: number, offset: number, target: Uint8Array): number;
  /**
   * Carries out several writes one after the other on another thread, each wholly: all of them, also when one fails. The
   * pieces are left alone until the callback gets 0 or an errno for each write. Long ones behind the end of a file take
   * their space first, where that makes them faster. What a descriptor is given while its thread is at work, the thread does next;
   * the descriptor stays open until all is answered.
   *
   * @param places by turns the offset of a write and how many of the pieces it has
   */
  writeGathered(
    descriptor: number,
    pieces: readonly Uint8Array[],
    places: Float64Array,
    callback: (answers: Int32Array) => void,
  ): void;
  /**
   * Tells the kernel that this thread writes what others want out of memory: it is not to wait for that itself when memory
   * is scarce (PR_SET_IO_FLUSHER). False where that is not permitted.
   */
  becomeFlusher(): boolean;
  /** Makes a ring and gives it back; a `wide` one, with submissions of 128 bytes, is what control commands need. */
  probeRing(wide: boolean): RingAbilities;
  /**
   * Where the stretch of data, or the hole, ends that `offset` is in: for a hole as it is, for data negative; 0 when the
   * file ends before that.
   */
  findExtent(descriptor: number, offset: number): number;
  /**
   * Copies bytes between open files on another thread; blocks of zeros, counted from the start, are left out unless
   * `blockLength` is 0. Zeros lie beyond the end of the source. Answers 0 or a negative errno: then a part may be copied.
   * Several into one target are written in the order of the calls.
   *
   * @param shares the file system copies, where it can (copy_file_range): the files may have the same blocks then
   */
  copyRange(
    source: number,
    sourceOffset: number,
    target: number,
    targetOffset: number,
    length: number,
    blockLength: number,
    shares: boolean,
    callback: (answer: number) => void,
  ): void;
  /**
   * Decompresses a cluster out of an open file on another thread: of `clusterSize` bytes those from `skipped` on that fill
   * the target. Answers 0, a negative errno, or `DAMAGED`.
   *
   * @param type 0 zlib, 1 zstd
   */
  decompressCluster(
    descriptor: number,
    hostOffset: number,
    sourceLength: number,
    type: number,
    clusterSize: number,
    skipped: number,
    target: Uint8Array,
    callback: (answer: number) => void,
  ): void;
  /**
   * Compresses on another thread. Answers how many bytes of the target are used, or 0 when it is too small.
   *
   * @param type 0 zlib, 1 zstd
   * @param level 0 for the library's own
   */
  compressCluster(
    type: number,
    level: number,
    source: Uint8Array,
    target: Uint8Array,
    callback: (answer: number) => void,
  ): void;
  /**
   * Fills `places` with where stretches of blocks begin that are not all zeros, and where they end, by turns.
   *
   * @returns how many places there are
   */
  findData(bytes: Uint8Array, blockLength: number, places: Int32Array): number;
  /** Whether clusters of this type (0 zlib, 1 zstd) can be compressed and decompressed here. */
  codecAvailable(type: number): boolean;
}

/** How `decompressCluster` says that the data are damaged. */
export const DAMAGED = -65536;

const PATH = fileURLToPath(new URL('../../native/corral.node', import.meta.url));

let loaded: Addon | Error | undefined;

/** The addon, or undefined where it was not built or does not fit. */
export function findAddon(): Addon | undefined {
  loaded ??= load();
  return loaded instanceof Error ? undefined : loaded;
}

/**
 * The addon.
 *
 * @throws CorralError ERR_ADDON_MISSING
 */
export function requireAddon(): Addon {
  const addon = findAddon();
  if (addon !== undefined) return addon;
  throw new CorralError('ERR_ADDON_MISSING', { path: PATH, reason: (loaded as Error).message });
}

/** True for the errors with which the addon answers. */
export function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && 'operation' in error && 'errno' in error;
}

function load(): Addon | Error {
  if (process.platform !== 'linux') return new Error('the addon is for Linux only');
  // As `require` does, without the half millisecond that it takes to find a file of which the path is known.
  const loading: { exports: unknown } = { exports: {} };
  try {
    process.dlopen(loading, PATH);
  } catch (error) {
    return existsSync(PATH) ? (error as Error) : new Error('it was not built: run `npm run build`');
  }
  const addon = loading.exports as Addon;
  return addon.abiHash === ABI_HASH ? addon : new Error('it was built for another version: run `npm run build`');
}
