// Bytes from one file to another, and which of them are zeros. For threads that may wait.

#pragma once

#include <sys/uio.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "result.hpp"

namespace corral {

namespace fileCopy {

/**
 * Memory of this thread until the next call; empty when there is none. It begins at a page: the kernel copies to and from
 * such memory a third faster.
 */
std::span<uint8_t> threadMemory(size_t length);

/** Fills the target from `offset` on, with zeros beyond the end of the file. */
SystemError readFully(int number, int64_t offset, std::span<uint8_t> target);

/** Nothing but zeros. */
bool isZero(std::span<const uint8_t> bytes);

/**
 * Takes space for a range that is about to be written, where that makes the write cheaper: ext4 finds blocks for a range in
 * one step, and else notes each 4 KiB of a write by itself until the page cache is written out. The length of the file
 * stays. That there is none is for the write to find out.
 */
void reserve(int number, int64_t offset, int64_t length);

/** The same for a long range that makes the file longer; others may have their space already. */
void reserveBehindEnd(int number, int64_t offset, int64_t length);

/** Writes all pieces, one behind the other; changes them on the way. */
SystemError writeFully(int number, int64_t offset, std::span<iovec> pieces);

/** Bytes of all pieces. */
int64_t lengthOf(std::span<const iovec> pieces);

/** The end of a piece of work, for which others wait. Ended at the latest when its owner is. */
class Ending {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return over_; });
  }

  void tell() {
    const std::scoped_lock lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
};

/** What to copy. Numbers are bytes. */
struct Range {
  int source;
  int64_t sourceOffset;
  int target;
  int64_t targetOffset;
  int64_t length;
  /** Blocks of zeros, counted from the start of the range, are left out; 0 to copy everything. */
  int64_t blockLength;
  /** The file system copies, where it can; then no zeros are left out. */
  bool shares;
};

/**
 * Copies; where that fails a part may have been copied. Zeros that are left out are holes or what was there before.
 *
 * @param before reads at once, but writes only when that has ended: one file takes one write at a time, and those that go
 * through it in order cost half of those that do not; null when there is nothing to wait for
 */
SystemError copySparse(const Range& range, Ending* before);

}  // namespace fileCopy

}  // namespace corral
