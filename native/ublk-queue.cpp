#include "ublk-queue.hpp"

#include <sys/prctl.h>

#include <cstdio>
#include <cstring>

#include "ublk-control.hpp"

namespace corral {

using abi::RequestFlag;
using abi::RequestKind;

namespace {

/** prctl(2): memory reclaim on behalf of this thread must not wait for I/O that this thread has to serve. */
constexpr int SET_IO_FLUSHER = 57;

/** Where the body of a command begins in a submission. */
constexpr size_t COMMAND_OFFSET = 48;
static_assert(offsetof(io_uring_sqe, cmd) == COMMAND_OFFSET);

/** Not an errno: the descriptor became a Request record. */
constexpr int32_t TRANSLATED = 1;
/** Nor this: the descriptor makes no sense. */
constexpr int32_t MALFORMED = 2;

/** In the place of a tag: the end of a buffer's registration, which nobody waits for. */
constexpr uint64_t UNREGISTRATION = 0xffff;

}  // namespace

SystemError UblkQueue::check(const UblkQueueOptions& options) const {
  const bool sane = options.depth >= 1 && options.depth <= ublk::MAX_QUEUE_DEPTH &&
                    options.firstSlot <= memory_.requestCapacity &&
                    options.depth <= memory_.requestCapacity - options.firstSlot && options.maxIoBytes >= 4096 &&
                    options.maxIoBytes <= ublk::MAX_IO_BYTES && options.maxIoBytes % 4096 == 0;
  if (!sane) return {"attach queue", EINVAL};
  return attached() ? SystemError{"attach queue", EBUSY} : NO_ERROR;
}

Result<FileDescriptor> UblkQueue::openDevice(const UblkQueueOptions& options) {
  if (options.device >= 0) return FileDescriptor::duplicate(options.device);
  char path[32];
  std::snprintf(path, sizeof path, "/dev/ublkc%u", options.deviceId);
  FileDescriptor device(::open(path, O_RDWR | O_CLOEXEC));
  if (!device) return SystemError::last("open ublk char device");
  return device;
}

SystemError UblkQueue::attach(const UblkQueueOptions& options) {
  if (const SystemError error = check(options)) return error;
  auto opened = openDevice(options);
  if (!opened) return opened.error();
  FileDescriptor device = std::move(*opened);

  constexpr size_t QUEUE_STRIDE = ublk::MAX_QUEUE_DEPTH * sizeof(ublk::RequestDescriptor);
  const size_t pageSize = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t length = (options.depth * sizeof(ublk::RequestDescriptor) + pageSize - 1) & ~(pageSize - 1);
  auto descriptors =
      Mapping::ofFile(device.number(), length, static_cast<off_t>(options.queueId * QUEUE_STRIDE), PROT_READ);
  if (!descriptors) return descriptors.error();
  if (const SystemError error = guest_.allocate(options.maxIoBytes, options.firstSlot, options.depth)) return error;
  if (options.path == DataPath::ZeroCopy) {
    if (const SystemError error = ring_.registerBufferTable(options.depth)) return error;
  }
  if (const SystemError error = ring_.registerFile(registeredFile_, device.number())) return error;

  options_ = options;
  device_ = std::move(device);
  guest_.setKernel(options.path, device_.number(), options.queueId);
  descriptorMemory_ = std::move(*descriptors);
  descriptors_ = descriptorMemory_.at<const ublk::RequestDescriptor>(0);
  tags_.assign(options.depth, Tag{});
  gone_ = 0;
  inService_ = 0;
  failure_ = 0;
  // Where it is refused, the requests cross from one processor to another, which only costs time.
  if (options.pinned) ublkPinThread(options.deviceId, options.queueId);
  ::prctl(SET_IO_FLUSHER, 1, 0, 0, 0);  // refused without CAP_SYS_RESOURCE, which only costs that protection
  for (uint32_t tag = 0; tag < options.depth; ++tag) fetch(tag, ublk::FETCH_REQUEST, -1);
  return ring_.enter(0);
}

SystemError UblkQueue::pretend(const UblkQueueOptions& options, const ublk::RequestDescriptor* descriptors,
                               int32_t* answers, int device) {
  if (const SystemError error = check(options)) return error;
  if (!guest_.attached() || guest_.slotCount() < options.depth || guest_.stride() < options.maxIoBytes ||
      guest_.firstSlot() != options.firstSlot) {
    return {"attach queue", EINVAL};
  }
  options_ = options;
  descriptors_ = descriptors;
  answers_ = answers;
  guest_.keepLengths(guest_.slotCount());
  guest_.setKernel(options.path, device, options.queueId);
  tags_.assign(options.depth, Tag{});
  return NO_ERROR;
}

void UblkQueue::close() {
  if (device_) ring_.registerFile(registeredFile_, -1);
  device_.reset();
  descriptorMemory_ = Mapping();
  descriptors_ = nullptr;
  answers_ = nullptr;
  tags_.clear();
}

Fetched UblkQueue::fetched(uint32_t tag, int32_t result) {
  if (tag >= tags_.size()) return Fetched::Gone;
  if (result < 0) {
    if (result != ublk::RESULT_ABORT && failure_ == 0) failure_ = -result;
    return ++gone_ == tags_.size() ? Fetched::Stopped : Fetched::Gone;
  }
  Tag& state = tags_[tag];
  state = Tag{};
  state.inService = true;
  ++inService_;
  const int32_t answered = translate(tag);
  if (answered == MALFORMED) {
    ++malformed_;
    answer(tag, -EIO);
    return Fetched::Malformed;
  }
  if (answered != TRANSLATED) {
    answer(tag, answered);
    return Fetched::Answered;
  }
  if (state.length == 0 || options_.path != DataPath::ZeroCopy) return begin(tag, false);
  if (options_.autoBuffers) {
    return begin(tag, (descriptors_[tag].operationAndFlags & ublk::FLAG_NEEDS_BUFFER) == 0);
  }
  io_uring_sqe& entry = command(tag, ublk::REGISTER_BUFFER, 0, tag);
  entry.user_data = registration_ | tag;
  return Fetched::Waits;
}

Fetched UblkQueue::registered(uint32_t tag, int32_t result) {
  if (tag >= tags_.size() || !tags_[tag].inService) return Fetched::Answered;
  tags_[tag].registered = result >= 0;
  return begin(tag, result >= 0);
}

/** The request's buffer is as it will be. */
Fetched UblkQueue::begin(uint32_t tag, bool registered) {
  const Tag& state = tags_[tag];
  const int errorNumber = guest_.begin(options_.firstSlot + tag, state.length, state.isRead, registered);
  if (errorNumber == 0 && !options_.answersNothing) return Fetched::Request;
  answer(tag, errorNumber != 0 ? -errorNumber : static_cast<int32_t>(state.length));
  return Fetched::Answered;
}

/** Fills the tag's Request record from its descriptor; else says with which errno to answer. */
int32_t UblkQueue::translate(uint32_t tag) {
  ublk::RequestDescriptor descriptor;
  std::memcpy(&descriptor, descriptors_ + tag, sizeof descriptor);
  const uint32_t operation = descriptor.operationAndFlags & ublk::OPERATION_MASK;

  RequestKind kind;
  switch (operation) {
    case ublk::OPERATION_READ:
      kind = RequestKind::Read;
      break;
    case ublk::OPERATION_WRITE:
      kind = RequestKind::Write;
      break;
    case ublk::OPERATION_FLUSH:
      kind = RequestKind::Flush;
      break;
    case ublk::OPERATION_DISCARD:
      kind = RequestKind::Discard;
      break;
    case ublk::OPERATION_WRITE_ZEROES:
      kind = RequestKind::WriteZeroes;
      break;
    case ublk::OPERATION_WRITE_SAME:
      return -EOPNOTSUPP;  // never advertised, but a kernel may ask
    default:
      lastMalformed_ = descriptor;
      return MALFORMED;
  }

  const bool moves = kind == RequestKind::Read || kind == RequestKind::Write;
  const uint32_t flags = descriptor.operationAndFlags;
  abi::Request record{};
  record.kind = static_cast<uint32_t>(kind);
  if (kind != RequestKind::Flush) {
    const uint64_t deviceSectors = options_.deviceSize >> ublk::SECTOR_BITS;
    const uint64_t length = static_cast<uint64_t>(descriptor.sectorCount) << ublk::SECTOR_BITS;
    const uint64_t longest = moves ? options_.maxIoBytes : ublk::MAX_ZEROES_BYTES;
    const bool sane = length > 0 && length <= longest && descriptor.startSector <= deviceSectors &&
                      descriptor.sectorCount <= deviceSectors - descriptor.startSector;
    if (!sane) {
      lastMalformed_ = descriptor;
      return MALFORMED;
    }
    record.guestOffset = descriptor.startSector << ublk::SECTOR_BITS;
    record.length = length;
    // A durable discard is one whose zeros are: no discard of the core's can be asked to be.
    const bool discards = kind == RequestKind::Discard;
    if (discards && options_.durable) record.kind = static_cast<uint32_t>(RequestKind::WriteZeroes);
    const bool durable = options_.durable || (!discards && (flags & ublk::FLAG_FUA) != 0);
    if (kind != RequestKind::Read && durable) record.flags |= static_cast<uint32_t>(RequestFlag::Durable);
    const bool zeroes = kind == RequestKind::WriteZeroes;
    const bool unmaps = zeroes ? options_.unmap && (flags & ublk::FLAG_NO_UNMAP) == 0 : discards && options_.durable;
    if (unmaps) record.flags |= static_cast<uint32_t>(RequestFlag::Unmap);
  }
  const size_t slot = options_.firstSlot + tag;
  std::memcpy(memory_.base + memory_.requests + slot * sizeof record, &record, sizeof record);
  tags_[tag].length = moves ? static_cast<uint32_t>(record.length) : 0;
  tags_[tag].isRead = kind == RequestKind::Read;
  return TRANSLATED;
}

bool UblkQueue::finish(uint32_t slot, int32_t result) {
  const uint32_t tag = slot - options_.firstSlot;
  if (tag >= tags_.size() || !tags_[tag].inService || tags_[tag].held) return false;
  Tag& state = tags_[tag];
  if (result == 0) result = static_cast<int32_t>(state.length);
  // A short answer would make the kernel ask for the rest, which no engine here ever means.
  if (state.spoiled || (result >= 0 && static_cast<uint32_t>(result) != state.length)) result = -EIO;
  if (guest_.busy(slot) > 0) {
    // Nothing more may start in its buffer; what is under way ends first.
    state.held = true;
    state.heldResult = result;
    guest_.end(slot);
    return true;
  }
  answer(tag, result);
  return true;
}

void UblkQueue::released(uint32_t slot) {
  const uint32_t tag = slot - options_.firstSlot;
  if (tag >= tags_.size() || !tags_[tag].held || guest_.busy(slot) > 0) return;
  tags_[tag].held = false;
  answer(tag, tags_[tag].heldResult);
}

void UblkQueue::spoil(uint32_t slot) {
  const uint32_t tag = slot - options_.firstSlot;
  if (tag < tags_.size() && tags_[tag].inService) tags_[tag].spoiled = true;
}

/** The request's end, which is the tag's next fetch. */
void UblkQueue::answer(uint32_t tag, int32_t result) {
  const uint32_t slot = options_.firstSlot + tag;
  Tag& state = tags_[tag];
  if (result > 0 && !options_.answersNothing) {
    const int errorNumber = guest_.complete(slot, state.length);
    if (errorNumber != 0) result = -errorNumber;
  }
  guest_.end(slot);
  state.inService = false;
  --inService_;
  if (state.registered) command(tag, ublk::UNREGISTER_BUFFER, 0, tag).user_data = registration_ | UNREGISTRATION;
  state.registered = false;
  fetch(tag, ublk::COMMIT_AND_FETCH_REQUEST, result);
}

/** Hands the tag to the driver, with where the bytes of its next request go. */
void UblkQueue::fetch(uint32_t tag, uint32_t opcode, int32_t result) {
  if (answers_ != nullptr) {
    answers_[tag] = result;
    return;
  }
  const bool plain = options_.path == DataPath::Plain;
  const auto address = reinterpret_cast<uint64_t>(guest_.at(options_.firstSlot + tag, 0));
  io_uring_sqe& entry = command(tag, opcode, result, plain ? address : 0);
  if (options_.path == DataPath::ZeroCopy && options_.autoBuffers) entry.addr = ublk::AUTO_BUFFER_FALLBACK | tag;
}

io_uring_sqe& UblkQueue::command(uint32_t tag, uint32_t opcode, int32_t result, uint64_t address) {
  io_uring_sqe& entry = ring_.prepare();
  entry.opcode = IORING_OP_URING_CMD;
  entry.fd = static_cast<int32_t>(registeredFile_);
  entry.flags = IOSQE_FIXED_FILE;
  entry.cmd_op = opcode;
  entry.user_data = tag_ | tag;
  const ublk::QueueCommand body{options_.queueId, static_cast<uint16_t>(tag), result, address};
  std::memcpy(reinterpret_cast<uint8_t*>(&entry) + COMMAND_OFFSET, &body, sizeof body);
  return entry;
}

}  // namespace corral
