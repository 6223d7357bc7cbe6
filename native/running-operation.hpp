// One operation of the core on its way to its end.

#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>

#include "abi.hpp"

namespace corral {

/** Zeros that can be written at once. The memory behind them is the kernel's single page of zeros, mapped often. */
inline constexpr uint32_t ZEROS_LENGTH = 2u << 20;

/** The kernel moves at most 2 GiB less a page in one call; more is continued. */
inline constexpr uint64_t MAX_TRANSFER = 1u << 30;

/** Pieces of one write: edge, buffer, edge. */
inline constexpr uint32_t MAX_PIECES = 3;

/** The checked copy of an operation record, and how far it is. One cache line: thousands go through here a second. */
struct alignas(64) RunningOperation {
  uint64_t hostOffset = 0;
  /** Bytes of the file that it covers, zeros included. */
  uint64_t total = 0;
  uint64_t done = 0;
  uint8_t* buffer = nullptr;
  uint32_t zeroBefore = 0;
  uint32_t length = 0;
  uint32_t slot = 0;
  abi::OperationKind kind{};
  uint8_t retries = 0;
  bool active = false;
  bool guest : 1 = false;
  /** The request's own pages are moved, by their index in the ring's table of buffers: `buffer` only says where. */
  bool direct : 1 = false;
  /** WriteZeroes: plain zeros are being written because the file system cannot do better. */
  bool plainZeros : 1 = false;
  /** OperationFile. Of a flush, the one that is being flushed. */
  uint8_t file = 0;
  /** From `edges` to the scratch bytes behind the buffer's. */
  int32_t edgeDistance = 0;
  /** Bytes of scratch memory around the buffer's, in the place of zeros: the ones before it; null for zeros. */
  uint8_t* edges = nullptr;

  bool writesZeros() const { return kind == abi::OperationKind::WriteZeroes && plainZeros; }
  /** Bytes pass between memory and file. */
  bool moves() const {
    return kind == abi::OperationKind::Read || kind == abi::OperationKind::Write || writesZeros();
  }
  bool gathers() const { return kind == abi::OperationKind::Write && total != length; }

  /** Names the next pieces of memory that have to move, `zeros` being ZEROS_LENGTH zero bytes. Returns their number. */
  uint32_t pieces(iovec (&vectors)[MAX_PIECES], uint8_t* zeros) const {
    const uint64_t bufferStart = writesZeros() ? total : zeroBefore;
    const uint64_t bufferEnd = writesZeros() ? total : bufferStart + length;
    uint32_t count = 0;
    for (uint64_t position = done; position < total && count < MAX_PIECES; ++count) {
      iovec& vector = vectors[count];
      if (position >= bufferStart && position < bufferEnd) {
        vector.iov_base = buffer + (position - bufferStart);
        vector.iov_len = std::min(bufferEnd - position, MAX_TRANSFER);
      } else if (edges != nullptr) {
        const bool ahead = position < bufferStart;
        vector.iov_base = ahead ? edges + position : edges + edgeDistance + (position - bufferEnd);
        vector.iov_len = (ahead ? bufferStart : total) - position;
      } else {
        const uint64_t end = position < bufferStart ? bufferStart : total;
        vector.iov_base = zeros;
        vector.iov_len = std::min<uint64_t>(end - position, ZEROS_LENGTH);
      }
      position += vector.iov_len;
    }
    return count;
  }
};

static_assert(sizeof(RunningOperation) == 64);

}  // namespace corral
