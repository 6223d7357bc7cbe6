#include "file-copy.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

#include "owned.hpp"

namespace corral::fileCopy {

namespace {

/** Bytes that are read before they are written, at least. */
constexpr int64_t PIECE = 4 << 20;
/** Fewer bytes are written in less time than finding space for them takes. */
constexpr int64_t SHORTEST_RESERVED = 256 << 10;

SystemError writeNew(int number, int64_t offset, std::span<uint8_t> bytes) {
  if (bytes.empty()) return NO_ERROR;
  reserve(number, offset, static_cast<int64_t>(bytes.size()));
  iovec piece{bytes.data(), bytes.size()};
  return writeFully(number, offset, {&piece, 1});
}

/** Writes what is not a block of zeros. */
SystemError writeData(int number, int64_t offset, std::span<uint8_t> bytes, size_t blockLength) {
  if (blockLength == 0) return writeNew(number, offset, bytes);
  size_t start = 0;
  for (size_t position = 0; position < bytes.size();) {
    const size_t length = std::min(blockLength, bytes.size() - position);
    const size_t next = position + length;
    if (isZero(bytes.subspan(position, length))) {
      const SystemError error =
          writeNew(number, offset + static_cast<int64_t>(start), bytes.subspan(start, position - start));
      if (error) return error;
      start = next;
    }
    position = next;
  }
  return writeNew(number, offset + static_cast<int64_t>(start), bytes.subspan(start));
}

/** Bytes from the start of the range that the file system has copied: fewer than all where it cannot, or the source ends. */
int64_t copyByFileSystem(const Range& range) {
  int64_t done = 0;
  while (done < range.length) {
    off64_t from = range.sourceOffset + done;
    off64_t into = range.targetOffset + done;
    const auto left = static_cast<size_t>(range.length - done);
    const ssize_t count = ::copy_file_range(range.source, &from, range.target, &into, left, 0);
    if (count < 0 && errno == EINTR) continue;
    // Why it could not, reading and writing finds out.
    if (count <= 0) break;
    done += count;
  }
  return done;
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

void reserve(int number, int64_t offset, int64_t length) {
  struct statfs status {};
  if (::fstatfs(number, &status) != 0 || status.f_type != EXT4_SUPER_MAGIC) return;
  while (::fallocate(number, FALLOC_FL_KEEP_SIZE, offset, length) != 0 && errno == EINTR) {
  }
}

void reserveBehindEnd(int number, int64_t offset, int64_t length) {
  struct stat status {};
  if (length < SHORTEST_RESERVED || ::fstat(number, &status) != 0) return;
  if (S_ISREG(status.st_mode) && offset + length > status.st_size) reserve(number, offset, length);
}

SystemError writeFully(int number, int64_t offset, std::span<iovec> pieces) {
  while (!pieces.empty()) {
    if (pieces.front().iov_len == 0) {
      pieces = pieces.subspan(1);
      continue;
    }
    const auto most = std::min(pieces.size(), size_t{IOV_MAX});
    const ssize_t count = ::pwritev(number, pieces.data(), static_cast<int>(most), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? SystemError::last("write") : SystemError{"write", EIO};
    offset += count;
    for (auto left = static_cast<size_t>(count); left > 0;) {
      iovec& piece = pieces.front();
      const size_t done = std::min(left, piece.iov_len);
      piece = {static_cast<uint8_t*>(piece.iov_base) + done, piece.iov_len - done};
      left -= done;
      if (piece.iov_len == 0) pieces = pieces.subspan(1);
    }
  }
  return NO_ERROR;
}

int64_t lengthOf(std::span<const iovec> pieces) {
  int64_t length = 0;
  for (const iovec& piece : pieces) length += static_cast<int64_t>(piece.iov_len);
  return length;
}

SystemError copySparse(const Range& range, Ending* before) {
  int64_t done = 0;
  if (range.shares) {
    if (before != nullptr) before->wait();
    done = copyByFileSystem(range);
    if (done == range.length) return NO_ERROR;
  }
  const int64_t blockLength = std::max<int64_t>(range.blockLength, 0);
  // Pieces are whole blocks: what is left out does not depend on where they end.
  const int64_t whole = blockLength == 0 ? PIECE : std::max(PIECE / blockLength, int64_t{1}) * blockLength;
  const int64_t pieceLength = std::min(whole, range.length);
  const std::span<uint8_t> buffer = threadMemory(static_cast<size_t>(pieceLength));
  if (buffer.empty()) return {"copy", ENOMEM};
  for (; done < range.length; done += pieceLength) {
    const auto length = static_cast<size_t>(std::min(pieceLength, range.length - done));
    const std::span<uint8_t> piece = buffer.first(length);
    SystemError error = readFully(range.source, range.sourceOffset + done, piece);
    if (before != nullptr) before->wait();
    if (!error) error = writeData(range.target, range.targetOffset + done, piece, static_cast<size_t>(blockLength));
    if (error) return error;
  }
  return NO_ERROR;
}

}  // namespace corral::fileCopy
