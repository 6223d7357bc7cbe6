#include "file-operations.hpp"

#include <linux/falloc.h>

#include <algorithm>
#include <cstring>

namespace corral {

using abi::BufferSpace;
using abi::OperationFile;
using abi::OperationKind;
using abi::Status;

namespace {

/** Largest file offset that the kernel has. */
constexpr uint64_t MAX_OFFSET = INT64_MAX;

/** Bytes of a scratch buffer: two of the largest clusters. */
constexpr size_t MAX_SCRATCH = 4u << 20;

/** How often a submission that the kernel did not carry out is repeated before a plain call does it. */
constexpr uint8_t MAX_RETRIES = 8;

/** IORING_OP_FTRUNCATE, Linux 6.9. */
constexpr uint8_t OPCODE_TRUNCATE = 55;

/**
 * The ring did not get as far as the file: it was interrupted, short of memory, or could not start one of its helper
 * threads, which cancels what waits for one. None of this says anything about the file.
 */
bool isTransient(int errorNumber) {
  return errorNumber == EINTR || errorNumber == EAGAIN || errorNumber == ENOMEM || errorNumber == ECANCELED;
}

bool isUnsupported(int errorNumber) {
  return errorNumber == EOPNOTSUPP || errorNumber == ENOSYS || errorNumber == ENOTTY || errorNumber == ENODEV;
}

bool changesFile(OperationKind kind) {
  return kind == OperationKind::Write || kind == OperationKind::WriteZeroes || kind == OperationKind::Discard ||
         kind == OperationKind::Truncate;
}

/** What needs more than a file: the host has libraries for it. */
bool isHosts(OperationKind kind) { return kind == OperationKind::Decompress || kind == OperationKind::ReadBacking; }

}  // namespace

bool CoreMemory::consistent() const {
  const auto fits = [this](uint32_t address, uint32_t count, size_t size) {
    return address % alignof(uint64_t) == 0 && address + count * static_cast<uint64_t>(size) <= length;
  };
  return base != nullptr && fits(operations, operationCapacity, sizeof(abi::Operation)) &&
         fits(requests, requestCapacity, sizeof(abi::Request));
}

FileOperations::FileOperations(Uring& ring, Events& events, GuestBuffers& guest, const CoreMemory& memory,
                               uint64_t tag, const uint32_t (&registeredFiles)[FILE_KINDS])
    : ring_(ring),
      events_(events),
      guest_(guest),
      memory_(memory),
      tag_(tag),
      truncateInRing_(ring.supports(OPCODE_TRUNCATE)),
      running_(memory.operationCapacity),
      pieces_(memory.operationCapacity) {
  for (size_t index = 0; index < FILE_KINDS; ++index) targets_[index].registered = registeredFiles[index];
}

SystemError FileOperations::prepare() {
  auto zeros = Mapping::ofMemory(ZEROS_LENGTH, PROT_READ);
  if (!zeros) return zeros.error();
  // A huge page of zeros would fill the cache with them; one small page stays in it.
  ::madvise(zeros->bytes(), zeros->length(), MADV_NOHUGEPAGE);
  zeros_ = std::move(*zeros);
  return NO_ERROR;
}

SystemError FileOperations::setFile(OperationFile file, int number, const FileUse& use) {
  if (inFlight_ != 0) return {"set file", EBUSY};
  if (!use.forbidden.sound()) return {"set file", EINVAL};
  auto copy = FileDescriptor::duplicate(number);
  if (!copy) return copy.error();
  const int flags = ::fcntl(copy->number(), F_GETFL);
  if (flags >= 0) {
    // A non-blocking file would make some kernels fail what is not in the page cache, instead of waiting for it.
    if ((flags & O_NONBLOCK) != 0) ::fcntl(copy->number(), F_SETFL, flags & ~O_NONBLOCK);
    // A guest's reads are nobody's access to the image file. Only the file's owner may say so; others go without.
    ::fcntl(copy->number(), F_SETFL, (flags & ~O_NONBLOCK) | O_NOATIME);
  }
  Target& target = targets_[static_cast<size_t>(file)];
  if (const SystemError error = ring_.registerFile(target.registered, copy->number())) return error;
  target.descriptor = std::move(*copy);
  target.direct.setFile(target.descriptor.number(), zeros_.bytes());
  if (const SystemError error = target.aligned.setFile(target.descriptor.number(), zeros_.bytes())) return error;
  target.use = use;
  target.zeroRangeRefused = false;
  return NO_ERROR;
}

SystemError FileOperations::setScratch(uint32_t length) {
  if (inFlight_ != 0) return {"set scratch", EBUSY};
  auto memory = Mapping::ofMemory(static_cast<size_t>(length) * abi::SCRATCH_COUNT, PROT_READ | PROT_WRITE);
  if (!memory) return memory.error();
  ownScratch_ = std::move(*memory);
  scratch_ = ownScratch_.bytes();
  scratchLength_ = length;
  return NO_ERROR;
}

SystemError FileOperations::shareScratch(uint8_t* base, size_t length) {
  if (inFlight_ != 0) return {"set scratch", EBUSY};
  if (length == 0 || length % abi::SCRATCH_COUNT != 0 || length / abi::SCRATCH_COUNT > MAX_SCRATCH) {
    return {"set scratch", EINVAL};
  }
  ownScratch_ = Mapping();
  scratch_ = base;
  scratchLength_ = static_cast<uint32_t>(length / abi::SCRATCH_COUNT);
  return NO_ERROR;
}

void FileOperations::dropFiles() {
  for (Target& target : targets_) {
    if (!target.descriptor) continue;
    ring_.registerFile(target.registered, -1);
    target.descriptor.reset();
  }
}

void FileOperations::start(uint32_t index, bool alone) {
  if (index < running_.size() && !running_[index].active) {
    RunningOperation& running = running_[index];
    abi::Operation record;
    std::memcpy(&record, memory_.base + memory_.operations + index * sizeof record, sizeof record);
    if (admit(record, running)) {
      running.active = true;
      ++inFlight_;
      if (running.guest) guest_.acquire(running.slot);
      if (isHosts(running.kind)) {
        askHost(index, running);
        return;
      }
      chooseMemory(running);
      int32_t result = running.direct ? 0 : -bring(running);
      if (result == 0 && isForbidden(running)) result = -EPERM;
      if (result != 0) {
        finish(index, running, -result);
      } else if (!running.direct && targetOf(running).direct.attempt(running, alone, &result)) {
        completed(index, result);
      } else {
        submit(index, running);
      }
      return;
    }
  }
  ++violations_;
  events_.push(EventType::Operation, static_cast<int32_t>(index), static_cast<int32_t>(Status::Invalid), 0);
}

/**
 * Whether the kernel's own pages are moved, or the buffer in memory. A file in memory is faster by plain calls, and a
 * write with surroundings is one write.
 */
void FileOperations::chooseMemory(RunningOperation& running) const {
  const bool can = running.guest && (running.kind == OperationKind::Read || running.kind == OperationKind::Write) &&
                   !running.gathers() && guest_.registered(running.slot);
  const Target& target = targets_[running.file];
  // Pages that somebody still writes to could become what they were not when they were looked at.
  running.direct =
      can && !target.direct.copies(running) && !target.aligned.refuses(running) && !watches(running);
}

/** The operation writes where something must not be. */
bool FileOperations::watches(const RunningOperation& running) const {
  return running.kind == OperationKind::Write && running.hostOffset < ForbiddenStart::LENGTH && running.total > 0 &&
         !targets_[running.file].use.forbidden.empty();
}

/** Whether a write, whose bytes are in memory, must not be. What is no whole sector cannot be judged. */
bool FileOperations::isForbidden(const RunningOperation& running) const {
  if (!watches(running)) return false;
  if (running.hostOffset != 0 || running.gathers() || running.length < ForbiddenStart::LENGTH) return true;
  return targets_[running.file].use.forbidden.matches(running.buffer);
}

/** Brings the guest bytes of a write into memory. Returns 0 or an errno. */
int FileOperations::bring(const RunningOperation& running) {
  if (!running.guest || running.kind != OperationKind::Write) return 0;
  return guest_.bring(running.slot, guest_.offsetOf(running.slot, running.buffer), running.length);
}

/** What cannot be done with a request's own pages starts over in memory. Returns 0 or an errno. */
int FileOperations::leaveDirect(RunningOperation& running) {
  if (!running.direct) return 0;
  running.direct = false;
  running.done = 0;
  return bring(running);
}

/** Zeros where a read found the end of the file. Returns 0 or an errno. */
int FileOperations::fillRest(const RunningOperation& running) {
  const uint64_t rest = running.total - running.done;
  uint8_t* place = running.buffer + running.done;
  if (running.direct) {
    return guest_.zero(running.slot, guest_.offsetOf(running.slot, place), static_cast<uint32_t>(rest));
  }
  std::memset(place, 0, rest);
  return 0;
}

/** Checks a record against what this host allows, and turns it into what is run. */
bool FileOperations::admit(const abi::Operation& record, RunningOperation& running) const {
  const auto kind = static_cast<OperationKind>(record.kind);
  if (record.kind < static_cast<uint32_t>(OperationKind::Read) ||
      record.kind > static_cast<uint32_t>(OperationKind::ReadBacking) || record.file >= FILE_KINDS) {
    return false;
  }
  const Target& target = targets_[record.file];
  if (!target.descriptor) return false;
  running.file = static_cast<uint8_t>(record.file);
  if (isHosts(kind)) return admitHelp(record, running);
  if (changesFile(kind) && !target.use.writable) return false;

  const bool ranged = kind != OperationKind::Flush && kind != OperationKind::Truncate;
  const bool gathers = kind == OperationKind::Write;
  running.kind = kind;
  running.hostOffset = record.hostOffset;
  running.length = ranged ? record.length : 0;
  running.zeroBefore = gathers ? record.zeroBefore : 0;
  running.total = static_cast<uint64_t>(running.zeroBefore) + running.length + (gathers ? record.zeroAfter : 0);
  running.done = 0;
  running.retries = 0;
  running.guest = false;
  running.direct = false;
  running.plainZeros = target.zeroRangeRefused;
  // Guest data first: nothing in the image may be durable that speaks of bytes which are not.
  if (kind == OperationKind::Flush) running.file = static_cast<uint8_t>(lastFile());
  if (record.hostOffset > MAX_OFFSET || running.total > MAX_OFFSET - record.hostOffset) return false;

  running.edges = nullptr;
  if (gathers && record.edges != 0 && !admitEdges(record, running)) return false;
  if ((kind != OperationKind::Read && kind != OperationKind::Write) || running.length == 0) return true;
  return admitBuffer(record, record.length, running);
}

/** Checks where the host's bytes will go. What they are made of, the host checks by itself. */
bool FileOperations::admitHelp(const abi::Operation& record, RunningOperation& running) const {
  running.kind = static_cast<OperationKind>(record.kind);
  running.hostOffset = record.hostOffset;
  running.length = record.length;
  running.total = static_cast<uint64_t>(record.length) +
                  (running.kind == OperationKind::ReadBacking ? record.zeroAfter : 0);
  running.guest = false;
  running.direct = false;
  running.edges = nullptr;
  // Guest bytes never enter the sandbox.
  if (static_cast<BufferSpace>(record.space) == BufferSpace::Module || running.total > INT32_MAX) return false;
  return admitBuffer(record, running.total, running);
}

/** Finds the memory that an operation moves. */
bool FileOperations::admitBuffer(const abi::Operation& record, uint64_t length, RunningOperation& running) const {
  switch (static_cast<BufferSpace>(record.space)) {
    case BufferSpace::Module:
      running.buffer = memory_.base + record.bufferOffset;
      return record.bufferOffset + length <= memory_.length;
    case BufferSpace::Guest:
      if (!guest_.admits(record.request, record.bufferOffset, static_cast<uint32_t>(length))) return false;
      running.guest = true;
      running.slot = record.request;
      running.buffer = guest_.at(record.request, record.bufferOffset);
      return true;
    case BufferSpace::Scratch:
      running.buffer = scratch(record.request, record.bufferOffset, length);
      return running.buffer != nullptr;
  }
  return false;
}

/** Finds the scratch bytes around a write's own: the ones before it where the record says, the others at the end. */
bool FileOperations::admitEdges(const abi::Operation& record, RunningOperation& running) const {
  const uint32_t number = record.edges - 1;
  if (record.zeroAfter > scratchLength_) return false;
  running.edges = scratch(number, record.sourceOffset, record.zeroBefore);
  const uint8_t* after = scratch(number, scratchLength_ - record.zeroAfter, record.zeroAfter);
  if (running.edges == nullptr || after == nullptr) return false;
  running.edgeDistance = static_cast<int32_t>(after - running.edges);
  return true;
}

/** Bytes of a scratch buffer; null when they are not there. */
uint8_t* FileOperations::scratch(uint32_t number, uint64_t offset, uint64_t length) const {
  if (scratchLength_ == 0 || number >= abi::SCRATCH_COUNT || offset + length > scratchLength_) return nullptr;
  return scratch_ + static_cast<size_t>(number) * scratchLength_ + offset;
}

/** Leaves an operation to the host, unless all that it wants is zeros. */
void FileOperations::askHost(uint32_t index, RunningOperation& running) {
  if (running.length == 0) {
    std::memset(running.buffer, 0, running.total);
    finish(index, running, 0);
    return;
  }
  ++helped_;
  events_.push(EventType::Help, static_cast<int32_t>(index), static_cast<int32_t>(running.length),
               static_cast<int32_t>(running.kind));
}

bool FileOperations::deliver(uint32_t index, const uint8_t* bytes, size_t length, int64_t* slot) {
  *slot = -1;
  if (index >= running_.size() || !running_[index].active || !isHosts(running_[index].kind)) return false;
  RunningOperation& running = running_[index];
  const bool fits = bytes == nullptr || length == running.length;
  if (bytes != nullptr && fits) {
    std::memcpy(running.buffer, bytes, length);
    std::memset(running.buffer + length, 0, running.total - length);
  }
  const bool arrived = bytes == nullptr || !fits || markFilled(running) == 0;
  running.active = false;
  --inFlight_;
  --helped_;
  if (running.guest) {
    guest_.release(running.slot);
    *slot = running.slot;
  }
  return fits && arrived;
}

/** The operation has filled what it was for. Returns 0, or the errno with which that cannot be handed on. */
int FileOperations::markFilled(const RunningOperation& running) {
  const bool fills = running.kind == OperationKind::Read || isHosts(running.kind);
  if (!running.guest || !fills || running.total == 0) return 0;
  const uint32_t offset = guest_.offsetOf(running.slot, running.buffer);
  const auto length = static_cast<uint32_t>(running.total);
  if (!running.direct) return guest_.filled(running.slot, offset, length);
  guest_.filledDirectly(running.slot, offset, length);
  return 0;
}

/** Prepares the next submission of an operation, or ends it when there is nothing to submit; result as `completed`. */
int64_t FileOperations::submit(uint32_t index, RunningOperation& running) {
  if (running.total == 0 && running.kind != OperationKind::Flush && running.kind != OperationKind::Truncate) {
    return finish(index, running, 0);
  }
  if (running.kind == OperationKind::Truncate && !truncateInRing_) {
    const int result = ::ftruncate(targetOf(running).descriptor.number(), static_cast<off_t>(running.hostOffset));
    return finish(index, running, result == 0 ? 0 : errno);
  }
  if (running.kind == OperationKind::Flush && targetOf(running).use.ignoresFlushes) return completed(index, 0);
  AlignedFile& aligned = targetOf(running).aligned;
  if (aligned.refuses(running)) {
    const int brought = leaveDirect(running);
    return brought != 0 ? finish(index, running, brought) : completed(index, aligned.carryOut(running));
  }
  io_uring_sqe& entry = ring_.prepare();
  entry.fd = static_cast<int32_t>(targetOf(running).registered);
  entry.flags = IOSQE_FIXED_FILE;
  entry.user_data = tag_ | index;

  switch (running.kind) {
    case OperationKind::Read:
      fillTransfer(entry, running, IORING_OP_READ, IORING_OP_READ_FIXED);
      break;
    case OperationKind::Write:
      if (running.gathers()) {
        fillGather(entry, index);
      } else {
        fillTransfer(entry, running, IORING_OP_WRITE, IORING_OP_WRITE_FIXED);
      }
      break;
    case OperationKind::WriteZeroes:
      if (running.plainZeros) {
        entry.opcode = IORING_OP_WRITE;
        entry.addr = reinterpret_cast<uint64_t>(zeros_.bytes());
        entry.len = static_cast<uint32_t>(std::min<uint64_t>(running.total - running.done, ZEROS_LENGTH));
        entry.off = running.hostOffset + running.done;
        break;
      }
      entry.opcode = IORING_OP_FALLOCATE;
      entry.off = running.hostOffset;
      entry.addr = running.total;  // io_uring passes the length here
      entry.len = FALLOC_FL_ZERO_RANGE;
      break;
    case OperationKind::Discard:
      entry.opcode = IORING_OP_FALLOCATE;
      entry.off = running.hostOffset;
      entry.addr = running.total;
      entry.len = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      break;
    case OperationKind::Flush:
      entry.opcode = IORING_OP_FSYNC;
      entry.fsync_flags = IORING_FSYNC_DATASYNC;
      break;
    case OperationKind::Truncate:
      entry.opcode = OPCODE_TRUNCATE;
      entry.off = running.hostOffset;
      break;
    case OperationKind::Decompress:
    case OperationKind::ReadBacking:
    case OperationKind::Compress:
      break;  // the host's
  }
  return -1;
}

/** The rest of a plain read or write. */
void FileOperations::fillTransfer(io_uring_sqe& entry, const RunningOperation& running, uint8_t opcode,
                                  uint8_t fixedOpcode) const {
  entry.opcode = running.direct || (running.guest && guestRegistered_) ? fixedOpcode : opcode;
  entry.addr = reinterpret_cast<uint64_t>(running.buffer + running.done);
  if (running.direct) {
    // A request's pages begin at address 0 of their entry in the table.
    entry.addr = guest_.offsetOf(running.slot, running.buffer) + running.done;
    entry.buf_index = guest_.tableIndex(running.slot);
  }
  entry.len = static_cast<uint32_t>(std::min<uint64_t>(running.total - running.done, MAX_TRANSFER));
  entry.off = running.hostOffset + running.done;
}

/** The rest of a write of zeros, buffer and zeros, as one vectored write. */
void FileOperations::fillGather(io_uring_sqe& entry, uint32_t index) {
  const RunningOperation& running = running_[index];
  auto& vectors = pieces_[index].vectors;
  entry.opcode = IORING_OP_WRITEV;
  entry.len = running.pieces(vectors, zeros_.bytes());
  entry.addr = reinterpret_cast<uint64_t>(vectors);
  entry.off = running.hostOffset + running.done;
}

int64_t FileOperations::completed(uint32_t index, int32_t result) {
  if (index >= running_.size() || !running_[index].active) return -1;
  RunningOperation& running = running_[index];
  if (result < 0) {
    const int errorNumber = -result;
    if (isTransient(errorNumber)) {
      if (++running.retries < MAX_RETRIES) return submit(index, running);
      if (running.retries == MAX_RETRIES) {
        const int brought = leaveDirect(running);
        return brought != 0 ? finish(index, running, brought)
                            : completed(index, targetOf(running).direct.carryOut(running));
      }
    }
    if (running.direct && (errorNumber == EFAULT || errorNumber == EINVAL || isUnsupported(errorNumber))) {
      const int brought = leaveDirect(running);
      return brought != 0 ? finish(index, running, brought) : submit(index, running);
    }
    if (running.kind == OperationKind::WriteZeroes && isUnsupported(errorNumber) && !running.plainZeros) {
      targetOf(running).zeroRangeRefused = true;
      running.plainZeros = true;
      return submit(index, running);
    }
    // A discard is a hint: a file system without holes keeps the bytes, which is allowed.
    const bool ignored = running.kind == OperationKind::Discard && isUnsupported(errorNumber);
    return finish(index, running, ignored ? 0 : errorNumber);
  }

  if (running.kind == OperationKind::Flush && running.file > 0) {
    --running.file;
    running.retries = 0;
    return submit(index, running);
  }
  if (!running.moves()) return finish(index, running, 0);
  running.done += static_cast<uint32_t>(result);
  running.retries = 0;
  if (running.done >= running.total) return finish(index, running, 0);
  if (result == 0) {
    if (running.kind != OperationKind::Read) return finish(index, running, EIO);
    return finish(index, running, fillRest(running));  // beyond the end of the file
  }
  return submit(index, running);
}

int64_t FileOperations::finish(uint32_t index, RunningOperation& running, int errorNumber) {
  if (errorNumber == 0) errorNumber = markFilled(running);
  running.active = false;
  --inFlight_;
  events_.operationDone(index, errorNumber);
  if (!running.guest) return -1;
  guest_.release(running.slot);
  return running.slot;
}

}  // namespace corral
