#include "ublk-queue.hpp"

#include <sys/prctl.h>

#include <cstdio>
#include <cstring>

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

}  // namespace

SystemError UblkQueue::check(const UblkQueueOptions& options) const {
  const bool sane = options.depth >= 1 && options.depth <= ublk::MAX_QUEUE_DEPTH &&
                    options.depth <= memory_.requestCapacity && options.maxIoBytes >= 4096 &&
                    options.maxIoBytes <= ublk::MAX_IO_BYTES && options.maxIoBytes % 4096 == 0;
  if (!sane) return {"attach queue", EINVAL};
  return attached() ? SystemError{"attach queue", EBUSY} : NO_ERROR;
}

SystemError UblkQueue::attach(const UblkQueueOptions& options) {
  if (const SystemError error = check(options)) return error;
  char path[32];
  std::snprintf(path, sizeof path, "/dev/ublkc%u", options.deviceId);
  FileDescriptor device(::open(path, O_RDWR | O_CLOEXEC));
  if (!device) return SystemError::last("open ublk char device");

  constexpr size_t QUEUE_STRIDE = ublk::MAX_QUEUE_DEPTH * sizeof(ublk::RequestDescriptor);
  const size_t pageSize = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t length = (options.depth * sizeof(ublk::RequestDescriptor) + pageSize - 1) & ~(pageSize - 1);
  auto descriptors =
      Mapping::ofFile(device.number(), length, static_cast<off_t>(options.queueId * QUEUE_STRIDE), PROT_READ);
  if (!descriptors) return descriptors.error();
  if (const SystemError error = guest_.allocate(options.maxIoBytes, options.depth)) return error;
  if (const SystemError error = ring_.registerFile(registeredFile_, device.number())) return error;

  options_ = options;
  device_ = std::move(device);
  descriptorMemory_ = std::move(*descriptors);
  descriptors_ = descriptorMemory_.at<const ublk::RequestDescriptor>(0);
  tags_.assign(options.depth, Tag{});
  gone_ = 0;
  inService_ = 0;
  failure_ = 0;
  ::prctl(SET_IO_FLUSHER, 1, 0, 0, 0);  // refused without CAP_SYS_RESOURCE, which only costs that protection
  for (uint32_t tag = 0; tag < options.depth; ++tag) command(tag, ublk::FETCH_REQUEST, -1);
  return ring_.enter(0);
}

SystemError UblkQueue::pretend(const UblkQueueOptions& options, const ublk::RequestDescriptor* descriptors,
                               int32_t* answers) {
  if (const SystemError error = check(options)) return error;
  if (!guest_.attached() || guest_.slotCount() < options.depth || guest_.stride() < options.maxIoBytes) {
    return {"attach queue", EINVAL};
  }
  options_ = options;
  descriptors_ = descriptors;
  answers_ = answers;
  guest_.keepLengths(guest_.slotCount());
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
  const int32_t answer = translate(tag);
  if (answer == TRANSLATED) return Fetched::Request;
  finish(tag, answer);
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
      ++malformed_;
      return -EIO;
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
      ++malformed_;
      return -EIO;
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
  std::memcpy(memory_.base + memory_.requests + tag * sizeof record, &record, sizeof record);
  tags_[tag].length = moves ? static_cast<uint32_t>(record.length) : 0;
  guest_.announce(tag, tags_[tag].length);
  return TRANSLATED;
}

bool UblkQueue::finish(uint32_t tag, int32_t result) {
  if (tag >= tags_.size() || !tags_[tag].inService || tags_[tag].held) return false;
  Tag& state = tags_[tag];
  guest_.announce(tag, 0);
  if (result == 0) result = static_cast<int32_t>(state.length);
  // A short answer would make the kernel ask for the rest, which no engine here ever means.
  if (state.spoiled || (result >= 0 && static_cast<uint32_t>(result) != state.length)) result = -EIO;
  if (guest_.busy(tag) > 0) {
    state.held = true;
    state.heldResult = result;
    return true;
  }
  state.inService = false;
  --inService_;
  command(tag, ublk::COMMIT_AND_FETCH_REQUEST, result);
  return true;
}

void UblkQueue::released(uint32_t tag) {
  if (tag >= tags_.size() || !tags_[tag].held || guest_.busy(tag) > 0) return;
  Tag& state = tags_[tag];
  state.held = false;
  state.inService = false;
  --inService_;
  command(tag, ublk::COMMIT_AND_FETCH_REQUEST, state.heldResult);
}

void UblkQueue::spoil(uint32_t tag) {
  if (tag < tags_.size() && tags_[tag].inService) tags_[tag].spoiled = true;
}

void UblkQueue::command(uint32_t tag, uint32_t opcode, int32_t result) {
  if (answers_ != nullptr) {
    answers_[tag] = result;
    return;
  }
  io_uring_sqe& entry = ring_.prepare();
  entry.opcode = IORING_OP_URING_CMD;
  entry.fd = static_cast<int32_t>(registeredFile_);
  entry.flags = IOSQE_FIXED_FILE;
  entry.cmd_op = opcode;
  entry.user_data = tag_ | tag;
  const ublk::QueueCommand body{options_.queueId, static_cast<uint16_t>(tag), result,
                                reinterpret_cast<uint64_t>(guest_.at(tag, 0))};
  std::memcpy(reinterpret_cast<uint8_t*>(&entry) + COMMAND_OFFSET, &body, sizeof body);
}

}  // namespace corral
