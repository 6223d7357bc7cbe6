#include "direct-file.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

namespace corral {

using abi::OperationKind;

namespace {

/** Longest read that is tried at once: a longer copy would hold up everything else. */
constexpr uint64_t LONGEST_READ = 64u << 10;

/** Longest transfer in memory that the thread does by itself. */
constexpr uint64_t LONGEST_COPY = 256u << 10;

/** Longest write that is copied into the page cache at once. */
constexpr uint64_t LONGEST_WRITE = 64u << 10;

/** Zeros from this length on are cheaper as a hole, or as space that is marked as not written. */
constexpr uint64_t SHORTEST_HOLE = 32u << 10;

/** A write of that many nanoseconds has waited for the storage, not for a copy. */
constexpr int64_t SLOW_WRITE = 500'000;

/** Most attempts that are left out after failed ones. */
constexpr uint32_t MAX_SKIP = 1024;

int32_t resultOf(long answer) { return answer < 0 ? -errno : static_cast<int32_t>(answer); }

/** Not in linux/magic.h of every kernel. */
constexpr uint32_t MAGIC_OF_XFS = 0x58465342;

/** The magic number of a regular file's file system; 0 when there is none that says anything. */
uint32_t fileSystemOf(int number) {
  struct stat file {};
  struct statfs status {};
  // A device node lies in a file system that has nothing to do with the device.
  if (::fstat(number, &file) != 0 || !S_ISREG(file.st_mode) || ::fstatfs(number, &status) != 0) return 0;
  return static_cast<uint32_t>(status.f_type);
}

bool livesInMemory(uint32_t fileSystem) { return fileSystem == TMPFS_MAGIC || fileSystem == RAMFS_MAGIC; }

/** Whether a buffered write is a copy into the page cache, which waits only when too much of that is dirty. */
bool isLocalDisk(uint32_t fileSystem) {
  return fileSystem == EXT4_SUPER_MAGIC || fileSystem == MAGIC_OF_XFS || fileSystem == BTRFS_SUPER_MAGIC;
}

int64_t nanoseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

}  // namespace

void DirectFile::setFile(int number, uint8_t* zeros) {
  number_ = number;
  zeros_ = zeros;
  const uint32_t fileSystem = fileSystemOf(number);
  inMemory_ = livesInMemory(fileSystem);
  const int flags = ::fcntl(number, F_GETFL);
  const bool buffered = flags >= 0 && (flags & O_DIRECT) == 0;
  saysWhenItWaits_ = buffered;
  copiesWrites_ = buffered && (flags & O_DSYNC) == 0 && isLocalDisk(fileSystem);
  zeroRangeRefused_ = false;
  reads_ = {};
  writes_ = {};
}

bool DirectFile::attempt(const RunningOperation& operation, bool alone, int32_t* result) {
  const bool ranged = operation.kind != OperationKind::Flush && operation.kind != OperationKind::Truncate;
  if (ranged && operation.total == 0) return false;
  if (inMemory_) {
    if (operation.moves() && !copies(operation)) return false;
    *result = carryOut(operation);
    return true;
  }
  if (!alone) return false;
  if (operation.kind == OperationKind::Read) return attemptRead(operation, result);
  if (operation.kind == OperationKind::Write) return attemptWrite(operation, result);
  return false;
}

bool DirectFile::copies(const RunningOperation& operation) const { return inMemory_ && operation.total <= LONGEST_COPY; }

bool DirectFile::attemptRead(const RunningOperation& operation, int32_t* result) {
  if (!saysWhenItWaits_ || operation.total > LONGEST_READ || reads_.leavesOut()) return false;
  *result = read(operation, RWF_NOWAIT);
  if (*result == -EOPNOTSUPP) saysWhenItWaits_ = false;
  reads_.wasGood(*result >= 0);
  return *result >= 0;
}

/** File systems hand most buffered writes of a ring to a helper thread, although they only copy. */
bool DirectFile::attemptWrite(const RunningOperation& operation, int32_t* result) {
  const bool zerosAreFree = operation.edges == nullptr && !zeroRangeRefused_;
  const uint64_t copied = zerosAreFree ? operation.length : operation.total;
  if (!copiesWrites_ || copied > LONGEST_WRITE || writes_.leavesOut()) return false;
  const int64_t before = nanoseconds();
  *result = carryOut(operation);
  writes_.wasGood(nanoseconds() - before < SLOW_WRITE);
  return true;
}

bool DirectFile::Attempts::leavesOut() {
  if (skip == 0) return false;
  --skip;
  return true;
}

void DirectFile::Attempts::wasGood(bool good) {
  lastSkip = good ? 0 : std::min(lastSkip * 2 + 1, MAX_SKIP);
  skip = lastSkip;
}

int32_t DirectFile::carryOut(const RunningOperation& operation) {
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

int32_t DirectFile::write(const RunningOperation& operation) {
  if (zeroAround(operation)) {
    const auto offset = static_cast<off_t>(operation.hostOffset + operation.zeroBefore);
    const int32_t result = resultOf(::pwrite(number_, operation.buffer, operation.length, offset));
    if (result < 0) return result;
    const auto written = static_cast<uint32_t>(result);
    // What is short of it all is continued as if nothing had been zeroed.
    return static_cast<int32_t>(written == operation.length ? operation.total : operation.zeroBefore + written);
  }
  iovec vectors[MAX_PIECES];
  const auto count = static_cast<int>(operation.pieces(vectors, zeros_));
  return resultOf(::pwritev(number_, vectors, count, static_cast<off_t>(operation.hostOffset + operation.done)));
}

/** Makes the zeros around a write without writing them, where that is cheaper. */
bool DirectFile::zeroAround(const RunningOperation& operation) {
  if (operation.kind != OperationKind::Write || operation.edges != nullptr || operation.done != 0) return false;
  if (operation.total - operation.length < SHORTEST_HOLE) return false;
  if (inMemory_) return operation.total <= LONGEST_COPY && punchAround(operation);
  if (!copiesWrites_ || zeroRangeRefused_) return false;
  // The range under the buffer too: two calls less, and nothing of it has been written yet.
  const int done = ::fallocate(number_, FALLOC_FL_ZERO_RANGE, static_cast<off_t>(operation.hostOffset),
                               static_cast<off_t>(operation.total));
  if (done != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) zeroRangeRefused_ = true;
  return done == 0;
}

/** Holes, where the file reaches that far already. */
bool DirectFile::punchAround(const RunningOperation& operation) const {
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
