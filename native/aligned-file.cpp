#include "aligned-file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace corral {

using abi::OperationKind;

namespace {

/** What every disk of today takes, where the kernel does not say. */
constexpr uint64_t USUAL_BLOCK = 4096;

/** Bytes that go through here at once. */
constexpr uint64_t BOUNCE_LENGTH = 1u << 20;

bool isPowerOfTwo(uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

/** Goes on after signals. */
template <typename Call>
int64_t uninterrupted(Call call) {
  while (true) {
    const int64_t count = call();
    if (count >= 0) return count;
    if (errno != EINTR) return -errno;
  }
}

}  // namespace

SystemError AlignedFile::setFile(int number, uint8_t* zeros) {
  number_ = number;
  zeros_ = zeros;
  block_ = 0;
  memoryAlignment_ = 0;
  const int flags = ::fcntl(number, F_GETFL);
  if (flags < 0 || (flags & O_DIRECT) == 0) return NO_ERROR;
  block_ = USUAL_BLOCK;
  memoryAlignment_ = USUAL_BLOCK;
#ifdef STATX_DIOALIGN
  struct statx status {};
  // Linux 6.1 and newer.
  if (::statx(number, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && (status.stx_mask & STATX_DIOALIGN) != 0) {
    const uint64_t block = status.stx_dio_offset_align;
    const uint64_t memory = status.stx_dio_mem_align;
    if (isPowerOfTwo(block) && block <= BOUNCE_LENGTH / 2) block_ = block;
    if (isPowerOfTwo(memory) && memory <= USUAL_BLOCK) memoryAlignment_ = memory;
  }
#endif
  if (bounce_.bytes() != nullptr) return NO_ERROR;
  auto memory = Mapping::ofMemory(BOUNCE_LENGTH, PROT_READ | PROT_WRITE);
  if (!memory) return memory.error();
  bounce_ = std::move(*memory);
  return NO_ERROR;
}

bool AlignedFile::refuses(const RunningOperation& operation) const {
  if (block_ == 0 || !operation.moves()) return false;
  if (((operation.hostOffset | operation.total | operation.done) & (block_ - 1)) != 0) return true;
  iovec vectors[MAX_PIECES];
  const uint32_t count = operation.pieces(vectors, zeros_);
  for (uint32_t index = 0; index < count; ++index) {
    const auto address = reinterpret_cast<uintptr_t>(vectors[index].iov_base);
    if ((address & (memoryAlignment_ - 1)) != 0 || (vectors[index].iov_len & (block_ - 1)) != 0) return true;
  }
  return false;
}

int32_t AlignedFile::carryOut(const RunningOperation& operation) {
  uint64_t done = operation.done;
  const uint64_t limit = std::min(operation.total, operation.done + MAX_TRANSFER);
  while (done < limit) {
    const bool reads = operation.kind == OperationKind::Read;
    const int32_t count = reads ? readPiece(operation, done) : writePiece(operation, done);
    if (count < 0) return count;
    if (count == 0) break;
    done += static_cast<uint32_t>(count);
  }
  return static_cast<int32_t>(done - operation.done);
}

/** Bytes of the operation that were read, 0 at the end of the file; or a negative errno. */
int32_t AlignedFile::readPiece(const RunningOperation& operation, uint64_t done) {
  const uint64_t from = operation.hostOffset + done;
  const uint64_t start = blockStart(from);
  const uint64_t end = std::min(blockEnd(operation.hostOffset + operation.total), start + BOUNCE_LENGTH);
  const int64_t found = readBlocks(start, bounce_.bytes(), end - start);
  if (found < 0) return static_cast<int32_t>(found);
  const uint64_t to = std::min(operation.hostOffset + operation.total, start + static_cast<uint64_t>(found));
  if (to <= from) return 0;
  std::memcpy(operation.buffer + done, bounce_.bytes() + (from - start), to - from);
  return static_cast<int32_t>(to - from);
}

/** Bytes of the operation that were written; or a negative errno. */
int32_t AlignedFile::writePiece(const RunningOperation& operation, uint64_t done) {
  const uint64_t from = operation.hostOffset + done;
  const uint64_t start = blockStart(from);
  const uint64_t end = std::min(blockEnd(operation.hostOffset + operation.total), start + BOUNCE_LENGTH);
  const uint64_t to = std::min(operation.hostOffset + operation.total, end);
  uint8_t* const bytes = bounce_.bytes();
  if (from > start || to < start + block_) {
    if (const int32_t error = fillBlock(start, bytes)) return error;
  }
  if (to < end && end - block_ > start) {
    if (const int32_t error = fillBlock(end - block_, bytes + (end - block_ - start))) return error;
  }
  RunningOperation rest = operation;
  for (rest.done = done; operation.hostOffset + rest.done < to;) {
    iovec vectors[MAX_PIECES];
    rest.pieces(vectors, zeros_);
    const uint64_t position = operation.hostOffset + rest.done;
    const uint64_t count = std::min<uint64_t>(vectors[0].iov_len, to - position);
    std::memcpy(bytes + (position - start), vectors[0].iov_base, count);
    rest.done += count;
  }
  for (uint64_t written = 0; written < end - start;) {
    const auto offset = static_cast<off_t>(start + written);
    const int64_t count =
        uninterrupted([&] { return ::pwrite(number_, bytes + written, end - start - written, offset); });
    if (count < 0) return static_cast<int32_t>(count);
    // What does not end at a block is written again.
    if (static_cast<uint64_t>(count) < block_) return -EIO;
    written = blockStart(written + static_cast<uint64_t>(count));
  }
  return static_cast<int32_t>(to - from);
}

/** The block as it is in the file, with zeros behind its end. 0, or a negative errno. */
int32_t AlignedFile::fillBlock(uint64_t start, uint8_t* block) const {
  const int64_t found = readBlocks(start, block, block_);
  if (found < 0) return static_cast<int32_t>(found);
  std::memset(block + found, 0, block_ - static_cast<uint64_t>(found));
  return 0;
}

/** Bytes that were read, fewer than `length` at the end of the file; or a negative errno. */
int64_t AlignedFile::readBlocks(uint64_t start, uint8_t* target, uint64_t length) const {
  uint64_t done = 0;
  while (done < length) {
    const int64_t count =
        uninterrupted([&] { return ::pread(number_, target + done, length - done, static_cast<off_t>(start + done)); });
    if (count < 0) return count;
    done += static_cast<uint64_t>(count);
    // Only the end of the file ends within a block.
    if (count == 0 || (done & (block_ - 1)) != 0) break;
  }
  return static_cast<int64_t>(done);
}

}  // namespace corral
