#include "file-copy.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "owned.hpp"

namespace corral::fileCopy {

namespace {

/** Bytes that are read before they are written: what is still in the processor's own cache by then. */
constexpr int64_t PIECE = 1 << 20;

SystemError writeFully(int number, int64_t offset, std::span<const uint8_t> source) {
  while (!source.empty()) {
    const ssize_t count = ::pwrite(number, source.data(), source.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError::last("write");
    if (count == 0) return {"write", EIO};
    source = source.subspan(static_cast<size_t>(count));
    offset += count;
  }
  return NO_ERROR;
}

/** Writes what is not a block of zeros. */
SystemError writeData(int number, int64_t offset, std::span<const uint8_t> bytes, size_t blockLength) {
  if (blockLength == 0) return writeFully(number, offset, bytes);
  size_t start = 0;
  for (size_t position = 0; position < bytes.size();) {
    const size_t length = std::min(blockLength, bytes.size() - position);
    const size_t next = position + length;
    if (isZero(bytes.subspan(position, length))) {
      const SystemError error =
          writeFully(number, offset + static_cast<int64_t>(start), bytes.subspan(start, position - start));
      if (error) return error;
      start = next;
    }
    position = next;
  }
  return writeFully(number, offset + static_cast<int64_t>(start), bytes.subspan(start));
}

}  // namespace

std::span<uint8_t> threadMemory(size_t length) {
  thread_local Mapping memory;
  if (memory.length() < length) {
    memory = Mapping();
    Result<Mapping> mapped = Mapping::ofMemory(length, PROT_READ | PROT_WRITE);
    if (!mapped) return {};
    memory = std::move(*mapped);
  }
  return {memory.bytes(), length};
}

SystemError readFully(int number, int64_t offset, std::span<uint8_t> target) {
  while (!target.empty()) {
    const ssize_t count = ::pread(number, target.data(), target.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError::last("read");
    if (count == 0) break;
    target = target.subspan(static_cast<size_t>(count));
    offset += count;
  }
  std::fill(target.begin(), target.end(), uint8_t{0});
  return NO_ERROR;
}

bool isZero(std::span<const uint8_t> bytes) {
  // The rest equals what is one byte ahead of it: memcmp(3) compares as fast as the processor can.
  return bytes.empty() || (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

SystemError copySparse(const Range& range) {
  const int64_t blockLength = std::max<int64_t>(range.blockLength, 0);
  // Pieces are whole blocks: what is left out does not depend on where they end.
  const int64_t whole = blockLength == 0 ? PIECE : std::max(PIECE / blockLength, int64_t{1}) * blockLength;
  const int64_t pieceLength = std::min(whole, range.length);
  const std::span<uint8_t> buffer = threadMemory(static_cast<size_t>(pieceLength));
  if (buffer.empty()) return {"copy", ENOMEM};
  for (int64_t done = 0; done < range.length; done += pieceLength) {
    const auto length = static_cast<size_t>(std::min(pieceLength, range.length - done));
    const std::span<uint8_t> piece = buffer.first(length);
    SystemError error = readFully(range.source, range.sourceOffset + done, piece);
    if (!error) error = writeData(range.target, range.targetOffset + done, piece, static_cast<size_t>(blockLength));
    if (error) return error;
  }
  return NO_ERROR;
}

}  // namespace corral::fileCopy
