#include "direct-file.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>

namespace corral {

using abi::OperationKind;

namespace {

/** Longest read that is tried at once: a longer copy would hold up everything else. */
constexpr uint64_t LONGEST_READ = 64u << 10;

/** Longest transfer in memory that the thread does by itself. */
constexpr uint64_t LONGEST_COPY = 256u << 10;

/** Zeros in memory from this length on are cheaper as a hole. */
constexpr uint64_t SHORTEST_HOLE = 32u << 10;

/** Most attempts that are left out after failed ones. */
constexpr uint32_t MAX_SKIP = 1024;

int32_t resultOf(long answer) { return answer < 0 ? -errno : static_cast<int32_t>(answer); }

bool livesInMemory(int number) {
  struct statfs status {};
  if (::fstatfs(number, &status) != 0) return false;
  return status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC;
}

}  // namespace

void DirectFile::setFile(int number, uint8_t* zeros) {
  number_ = number;
  zeros_ = zeros;
  inMemory_ = livesInMemory(number);
  const int flags = ::fcntl(number, F_GETFL);
  saysWhenItWaits_ = flags >= 0 && (flags & O_DIRECT) == 0;
  skip_ = 0;
  lastSkip_ = 0;
}

bool DirectFile::attempt(const RunningOperation& operation, bool alone, int32_t* result) {
  const bool ranged = operation.kind != OperationKind::Flush && operation.kind != OperationKind::Truncate;
  if (ranged && operation.total == 0) return false;
  if (inMemory_) {
    if (operation.moves() && operation.total > LONGEST_COPY) return false;
    *result = carryOut(operation);
    return true;
  }
  if (!alone || !saysWhenItWaits_ || operation.kind != OperationKind::Read) return false;
  if (operation.total > LONGEST_READ) return false;
  if (skip_ > 0) {
    --skip_;
    return false;
  }
  *result = read(operation, RWF_NOWAIT);
  if (*result >= 0) {
    lastSkip_ = 0;
    return true;
  }
  if (*result == -EOPNOTSUPP) saysWhenItWaits_ = false;
  lastSkip_ = std::min(lastSkip_ * 2 + 1, MAX_SKIP);
  skip_ = lastSkip_;
  return false;
}

int32_t DirectFile::carryOut(const RunningOperation& operation) const {
  while (true) {
    int32_t result = -EINVAL;
    switch (operation.kind) {
      case OperationKind::Read:
        result = read(operation, 0);
        break;
      case OperationKind::WriteZeroes:
        if (!operation.plainZeros) {
          result = resultOf(::fallocate(number_, FALLOC_FL_ZERO_RANGE, static_cast<off_t>(operation.hostOffset),
                                        static_cast<off_t>(operation.total)));
          break;
        }
        [[fallthrough]];
      case OperationKind::Write:
        result = write(operation);
        break;
      case OperationKind::Discard:
        result = resultOf(::fallocate(number_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                      static_cast<off_t>(operation.hostOffset), static_cast<off_t>(operation.total)));
        break;
      case OperationKind::Flush:
        result = resultOf(::fdatasync(number_));
        break;
      case OperationKind::Truncate:
        result = resultOf(::ftruncate(number_, static_cast<off_t>(operation.hostOffset)));
        break;
      case OperationKind::Decompress:
      case OperationKind::ReadBacking:
      case OperationKind::Compress:
        break;  // the host's
    }
    if (result != -EINTR) return result;
  }
}

int32_t DirectFile::write(const RunningOperation& operation) const {
  if (punchAround(operation)) {
    const auto offset = static_cast<off_t>(operation.hostOffset + operation.zeroBefore);
    const int32_t result = resultOf(::pwrite(number_, operation.buffer, operation.length, offset));
    if (result < 0) return result;
    const auto written = static_cast<uint32_t>(result);
    // What is short of it all is continued as if there had been no holes.
    return static_cast<int32_t>(written == operation.length ? operation.total : operation.zeroBefore + written);
  }
  iovec vectors[MAX_PIECES];
  const auto count = static_cast<int>(operation.pieces(vectors, zeros_));
  return resultOf(::pwritev(number_, vectors, count, static_cast<off_t>(operation.hostOffset + operation.done)));
}

/** Makes the zeros of a write holes, where that is cheaper and the file reaches that far already. */
bool DirectFile::punchAround(const RunningOperation& operation) const {
  if (!inMemory_ || operation.kind != OperationKind::Write || operation.edges != nullptr) return false;
  if (operation.done != 0) return false;
  if (operation.total - operation.length < SHORTEST_HOLE || operation.total > LONGEST_COPY) return false;
  struct stat status {};
  const uint64_t end = operation.hostOffset + operation.total;
  if (::fstat(number_, &status) != 0 || static_cast<uint64_t>(status.st_size) < end) return false;
  const auto punch = [this](uint64_t from, uint64_t to) {
    return from == to || ::fallocate(number_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from),
                                     static_cast<off_t>(to - from)) == 0;
  };
  const uint64_t bufferStart = operation.hostOffset + operation.zeroBefore;
  return punch(operation.hostOffset, bufferStart) && punch(bufferStart + operation.length, end);
}

int32_t DirectFile::read(const RunningOperation& operation, int flags) const {
  const iovec vector{operation.buffer + operation.done,
                     static_cast<size_t>(std::min(operation.total - operation.done, MAX_TRANSFER))};
  const auto offset = static_cast<off_t>(operation.hostOffset + operation.done);
  return resultOf(flags == 0 ? ::preadv(number_, &vector, 1, offset)
                             : ::preadv2(number_, &vector, 1, offset, flags));
}

}  // namespace corral
