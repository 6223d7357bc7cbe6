// Bytes from one file to another, and which of them are zeros. For threads that may wait.

#pragma once

#include <cstddef>
#include <cstdint>
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

/** What to copy. Numbers are bytes. */
struct Range {
  int source;
  int64_t sourceOffset;
  int target;
  int64_t targetOffset;
  int64_t length;
  /** Blocks of zeros, counted from the start of the range, are left out; 0 to copy everything. */
  int64_t blockLength;
};

/** Copies; where that fails a part may have been copied. Zeros that are left out are holes or what was there before. */
SystemError copySparse(const Range& range);

}  // namespace fileCopy

}  // namespace corral
