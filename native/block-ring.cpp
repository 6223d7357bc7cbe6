#include "block-ring.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>

namespace corral {

namespace {

// Upper half of a submission's user data: whose it is. The lower half is an index of its owner.
constexpr uint64_t SOURCE_FILE = uint64_t{1} << 32;
constexpr uint64_t SOURCE_QUEUE = uint64_t{2} << 32;
constexpr uint64_t SOURCE_WAKE = uint64_t{3} << 32;
constexpr uint64_t SOURCE_REGISTRATION = uint64_t{4} << 32;
constexpr uint64_t SOURCE_MASK = ~uint64_t{0} << 32;

// The ring's table of registered files.
constexpr uint32_t FILE_IMAGE = 0;
constexpr uint32_t FILE_DEVICE = 1;
constexpr uint32_t FILE_WAKE = 2;
constexpr uint32_t FILE_DATA = 3;
constexpr uint32_t FILE_COUNT = 4;

/** By OperationFile. */
constexpr uint32_t OPERATION_FILES[FILE_KINDS] = {FILE_IMAGE, FILE_DATA};

/** Its fetch, or its buffer's registration, and the end of that. */
constexpr uint32_t COMPLETIONS_A_TAG = 2;

/** Completions besides those of operations and tags. */
constexpr uint32_t EXTRA_COMPLETIONS = 4;

/** Entries of a turn up to which a read is tried at once: a batch is cheaper through the ring. */
constexpr uint32_t FEW_ENTRIES = 2;

/** Turns that may end without entering the kernel: what it wants to report must not wait for ever. */
constexpr uint32_t MAX_TURNS_OUTSIDE = 64;

/** The kernel's limit. */
constexpr uint32_t MAX_COMPLETIONS = 65536;

/** More than one turn ever prepares for a deep queue; beyond it the ring hands over early. */
constexpr uint32_t MAX_SUBMISSIONS = 4096;

}  // namespace

Result<std::unique_ptr<BlockRing>> BlockRing::create(const BlockRingOptions& options) {
  if (!options.memory.consistent() || options.outgoingQuads < 2 || options.eventQuads < 2) {
    return SystemError{"create ring", EINVAL};
  }
  // Each operation and each tag has at most one completion under way: with room for all of them none is held back.
  UringOptions uringOptions;
  // What is more than the kernel's largest queue, it keeps until there is room.
  uringOptions.completionCapacity =
      std::min(options.memory.operationCapacity + COMPLETIONS_A_TAG * options.memory.requestCapacity +
                   EXTRA_COMPLETIONS,
               MAX_COMPLETIONS);
  uringOptions.submissionCapacity = std::min(uringOptions.completionCapacity, MAX_SUBMISSIONS);
  auto uring = Uring::create(uringOptions);
  if (!uring) return uring.error();
  std::unique_ptr<BlockRing> ring(new BlockRing(options, std::move(*uring)));
  if (const SystemError error = ring->prepare()) return error;
  return ring;
}

BlockRing::BlockRing(const BlockRingOptions& options, Uring&& ring)
    : options_(options),
      ring_(std::move(ring)),
      events_(options.events, options.eventQuads),
      files_(ring_, events_, guest_, options_.memory, SOURCE_FILE, OPERATION_FILES),
      queue_(ring_, guest_, options_.memory, SOURCE_QUEUE, SOURCE_REGISTRATION, FILE_DEVICE) {}

SystemError BlockRing::prepare() {
  if (const SystemError error = files_.prepare()) return error;
  wakeFile_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeFile_) return SystemError::last("eventfd");
  if (const SystemError error = ring_.registerFileTable(FILE_COUNT)) return error;
  if (const SystemError error = ring_.registerFile(FILE_WAKE, wakeFile_.number())) return error;
  watchWake();
  return ring_.enter(0);
}

void BlockRing::watchWake() {
  io_uring_sqe& entry = ring_.prepare();
  // A poll and not a read: nothing of the kernel's points into our memory when the ring goes away.
  entry.opcode = IORING_OP_POLL_ADD;
  entry.fd = static_cast<int32_t>(FILE_WAKE);
  entry.flags = IOSQE_FIXED_FILE;
  entry.poll32_events = POLLIN;
  entry.user_data = SOURCE_WAKE;
}

void BlockRing::wake() const {
  const uint64_t one = 1;
  while (::write(wakeFile_.number(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

SystemError BlockRing::setGuestBuffers(uint8_t* base, size_t length, uint32_t stride, uint32_t firstSlot,
                                       const int32_t* lengths) {
  if (stride == 0 || length < stride || queue_.attached() || files_.inFlight() != 0) {
    return {"set guest buffers", EINVAL};
  }
  ring_.unregisterBuffers();
  // Pinned memory saves a page walk at each operation. Beyond RLIMIT_MEMLOCK there is none, and all goes on without.
  files_.setGuestRegistered(!ring_.registerBuffer(base, length));
  guest_.attach(base, stride, firstSlot, static_cast<uint32_t>(length / stride), lengths);
  return NO_ERROR;
}

SystemError BlockRing::setMemory(const CoreMemory& memory) {
  CoreMemory& before = options_.memory;
  const bool same = memory.operationCapacity == before.operationCapacity &&
                    memory.requestCapacity == before.requestCapacity;
  if (closed() || !memory.consistent() || !same || files_.inFlight() != 0) return {"set memory", EINVAL};
  std::memcpy(memory.base + memory.requests, before.base + before.requests,
              memory.requestCapacity * sizeof(abi::Request));
  before = memory;
  return NO_ERROR;
}

bool BlockRing::deliver(uint32_t operation, const uint8_t* bytes, size_t length) {
  if (closed()) return false;
  int64_t slot = -1;
  const bool delivered = files_.deliver(operation, bytes, length, &slot);
  if (slot >= 0) queue_.released(static_cast<uint32_t>(slot));
  return delivered;
}

SystemError BlockRing::turn() {
  if (closed()) return {"turn", EBADF};
  const auto mode = static_cast<TurnMode>(options_.outgoing[1]);
  if (mode != TurnMode::Apply) events_.begin();
  const uint32_t count = std::min(static_cast<uint32_t>(options_.outgoing[0]), options_.outgoingQuads - 1);
  const bool alone = count <= FEW_ENTRIES && files_.inRing() == 0;
  for (uint32_t index = 1; index <= count; ++index) apply(options_.outgoing + index * QUAD, alone);
  if (mode == TurnMode::Apply) return NO_ERROR;

  if (!pretended_.empty()) {
    std::vector<PretendedFetch> fetches;
    fetches.swap(pretended_);
    for (const PretendedFetch& fetch : fetches) fetched(fetch.tag, queue_.fetched(fetch.tag, fetch.result));
  }
  while (true) {
    const bool nothing = events_.count() == 0 && ring_.ready() == 0;
    if (ring_.pending() > 0 || nothing || ring_.overflowed() || ++turnsOutside_ > MAX_TURNS_OUTSIDE) {
      turnsOutside_ = 0;
      const SystemError error = ring_.enter(nothing && mode == TurnMode::Wait ? 1 : 0);
      // A kernel short of memory recovers when completions are taken; anything else is the end of this ring.
      if (error && error.number != EAGAIN && error.number != EBUSY) return error;
    }
    reap();
    if (events_.count() > 0 || mode != TurnMode::Wait) {
      events_.end();
      return NO_ERROR;
    }
  }
}

void BlockRing::apply(const int32_t* quad, bool alone) {
  const auto a = static_cast<uint32_t>(quad[1]);
  switch (static_cast<OutgoingType>(quad[0])) {
    case OutgoingType::Operation:
      files_.start(a, alone);
      return;
    case OutgoingType::Fill: {
      const auto offset = static_cast<uint32_t>(quad[2]);
      const auto length = static_cast<uint32_t>(quad[3]);
      if (guest_.admits(a, offset, length)) {
        if (guest_.zero(a, offset, length) != 0) queue_.spoil(a);
        return;
      }
      // Nobody waits for a fill: the request that it was for must not end as if it had been done.
      queue_.spoil(a);
      break;
    }
    case OutgoingType::Finish:
      if (queue_.finish(a, quad[2])) return;
      break;
  }
  ++violations_;
}

void BlockRing::reap() {
  while (!events_.full() && ring_.ready() > 0) {
    const io_uring_cqe& completion = ring_.front();
    const uint64_t userData = completion.user_data;
    const int32_t result = completion.res;
    ring_.advance();
    dispatch(userData, result);
  }
}

void BlockRing::dispatch(uint64_t userData, int32_t result) {
  const auto index = static_cast<uint32_t>(userData);
  switch (userData & SOURCE_MASK) {
    case SOURCE_FILE: {
      const int64_t slot = files_.completed(index, result);
      if (slot >= 0) queue_.released(static_cast<uint32_t>(slot));
      return;
    }
    case SOURCE_QUEUE:
      fetched(index, queue_.fetched(index, result));
      return;
    case SOURCE_REGISTRATION:
      fetched(index, queue_.registered(index, result));
      return;
    case SOURCE_WAKE: {
      uint64_t calls = 0;
      if (::read(wakeFile_.number(), &calls, sizeof calls) > 0) events_.push(EventType::Control, 0, 0, 0);
      if (!closing_) watchWake();
      return;
    }
  }
}

void BlockRing::fetched(uint32_t tag, Fetched outcome) {
  switch (outcome) {
    case Fetched::Request:
      events_.push(EventType::Request, static_cast<int32_t>(queue_.firstSlot() + tag), 0, 0);
      return;
    case Fetched::Stopped:
      events_.push(EventType::QueueStopped, queue_.failure(), 0, 0);
      return;
    case Fetched::Malformed: {
      const ublk::RequestDescriptor& descriptor = queue_.lastMalformed();
      events_.push(EventType::Malformed, static_cast<int32_t>(queue_.firstSlot() + tag),
                   static_cast<int32_t>(descriptor.operationAndFlags), static_cast<int32_t>(descriptor.sectorCount));
      return;
    }
    case Fetched::Answered:
    case Fetched::Waits:
    case Fetched::Gone:
      return;
  }
}

void BlockRing::close() {
  if (closed()) return;
  closing_ = true;
  // Buffers belong to the host again when this returns: no operation may still be writing into them. What the host was
  // asked for is not waited for: only `deliver` would write, and does not any more.
  while (files_.inRing() > 0) {
    events_.begin();
    if (ring_.enter(ring_.ready() == 0 ? 1 : 0)) break;
    reap();
  }
  queue_.close();
  files_.dropFiles();
  ring_.unregisterBuffers();
  ring_.registerFile(FILE_WAKE, -1);
  ring_ = Uring();
  guest_ = GuestBuffers();
  wakeFile_.reset();
}

}  // namespace corral
