#include "guest-buffers.hpp"

#include <algorithm>
#include <cstring>

#include "ublk-abi.hpp"

namespace corral {

namespace {

constexpr uint32_t SECTOR = 1u << ublk::SECTOR_BITS;
constexpr uint32_t WORD_BITS = 64;

}  // namespace

void GuestBuffers::attach(uint8_t* base, uint32_t stride, uint32_t firstSlot, uint32_t slotCount,
                          const int32_t* lengths) {
  memory_ = Mapping();
  base_ = base;
  stride_ = stride;
  firstSlot_ = firstSlot;
  path_ = DataPath::Host;
  ownLengths_.clear();
  lengths_ = lengths;
  busy_.assign(slotCount, 0);
}

SystemError GuestBuffers::allocate(uint32_t stride, uint32_t firstSlot, uint32_t slotCount) {
  auto memory = Mapping::ofMemory(static_cast<size_t>(stride) * slotCount, PROT_READ | PROT_WRITE);
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  base_ = memory_.bytes();
  stride_ = stride;
  firstSlot_ = firstSlot;
  keepLengths(slotCount);
  return NO_ERROR;
}

void GuestBuffers::setKernel(DataPath path, int device, uint16_t queueId) {
  path_ = path;
  device_ = device;
  queueId_ = queueId;
  reads_.assign(slotCount(), 0);
  registered_.assign(slotCount(), 0);
  coverage_.assign(path == DataPath::ZeroCopy ? slotCount() : 0, Coverage{});
}

void GuestBuffers::keepLengths(uint32_t slotCount) {
  ownLengths_.assign(slotCount, 0);
  lengths_ = ownLengths_.data();
  busy_.assign(slotCount, 0);
}

int GuestBuffers::begin(uint32_t slot, uint32_t length, bool isRead, bool registered) {
  const uint32_t index = slot - firstSlot_;
  ownLengths_[index] = static_cast<int32_t>(length);
  reads_[index] = isRead ? 1 : 0;
  registered_[index] = registered ? 1 : 0;
  if (path_ == DataPath::ZeroCopy) {
    coverage_[index].prefix = 0;
    coverage_[index].scattered = false;
  }
  return path_ == DataPath::UserCopy && !isRead && length > 0 ? copyIn(slot, 0, length) : 0;
}

int GuestBuffers::complete(uint32_t slot, uint32_t length) {
  if (reads_[slot - firstSlot_] == 0 || length == 0) return 0;
  if (path_ == DataPath::UserCopy) return copyOut(slot, 0, length);
  return path_ == DataPath::ZeroCopy && !covered(slot, length) ? EIO : 0;
}

int GuestBuffers::filled(uint32_t slot, uint32_t offset, uint32_t length) {
  if (path_ != DataPath::ZeroCopy) return 0;
  const int errorNumber = copyOut(slot, offset, length);
  if (errorNumber == 0) note(slot, offset, length);
  return errorNumber;
}

int GuestBuffers::zero(uint32_t slot, uint32_t offset, uint32_t length) {
  std::memset(at(slot, offset), 0, length);
  return filled(slot, offset, length);
}

int GuestBuffers::copyIn(uint32_t slot, uint32_t offset, uint32_t length) const {
  for (uint32_t done = 0; done < length;) {
    const ssize_t moved = ::pread(device_, at(slot, offset + done), length - done,
                                  static_cast<off_t>(position(slot, offset + done)));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return moved < 0 ? errno : EIO;
    done += static_cast<uint32_t>(moved);
  }
  return 0;
}

int GuestBuffers::copyOut(uint32_t slot, uint32_t offset, uint32_t length) const {
  for (uint32_t done = 0; done < length;) {
    const ssize_t moved = ::pwrite(device_, at(slot, offset + done), length - done,
                                   static_cast<off_t>(position(slot, offset + done)));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return moved < 0 ? errno : EIO;
    done += static_cast<uint32_t>(moved);
  }
  return 0;
}

uint64_t GuestBuffers::position(uint32_t slot, uint32_t offset) const {
  return ublk::copyPosition(queueId_, slot - firstSlot_, offset);
}

/** Only whole sectors count: what the core asks for are parts of clusters, and so whole sectors of a request. */
void GuestBuffers::note(uint32_t slot, uint32_t offset, uint32_t length) {
  const uint32_t index = slot - firstSlot_;
  if (path_ != DataPath::ZeroCopy || reads_[index] == 0) return;
  Coverage& coverage = coverage_[index];
  if (offset <= coverage.prefix) {
    coverage.prefix = std::max(coverage.prefix, offset + length);
    return;
  }
  if (!coverage.scattered) {
    coverage.scattered = true;
    coverage.sectors.assign(static_cast<uint32_t>(ownLengths_[index]) / SECTOR / WORD_BITS + 1, 0);
  }
  const uint32_t end = (offset + length) / SECTOR;
  for (uint32_t sector = (offset + SECTOR - 1) / SECTOR; sector < end; ++sector) {
    coverage.sectors[sector / WORD_BITS] |= uint64_t{1} << (sector % WORD_BITS);
  }
}

bool GuestBuffers::covered(uint32_t slot, uint32_t length) const {
  const Coverage& coverage = coverage_[slot - firstSlot_];
  if (coverage.prefix >= length) return true;
  if (!coverage.scattered) return false;
  for (uint32_t sector = coverage.prefix / SECTOR; sector < length / SECTOR; ++sector) {
    if ((coverage.sectors[sector / WORD_BITS] >> (sector % WORD_BITS) & 1) == 0) return false;
  }
  return true;
}

}  // namespace corral
