// Where the bytes of each guest request lie, and how many of them may be touched.
//
// This is the one place of the data path: user copy and zero copy would be added here.

#pragma once

#include <cstdint>
#include <vector>

#include "owned.hpp"

namespace corral {

/**
 * One buffer a request slot, all in one stretch of memory. A slot's buffer may be used while a request is in flight in
 * it, and never beyond the length which that request announced.
 */
class GuestBuffers {
 public:
  /**
   * Buffers in memory of the host program. `lengths` (one number a slot, 0: no request in flight) is the host's to
   * keep up to date and is read at every check. Both must outlive this object or the next `attach`.
   */
  void attach(uint8_t* base, uint32_t stride, uint32_t slotCount, const int32_t* lengths) {
    memory_ = Mapping();
    base_ = base;
    stride_ = stride;
    ownLengths_.clear();
    lengths_ = lengths;
    busy_.assign(slotCount, 0);
  }

  /** Own buffers, lazily populated, page aligned; `announce` says what is in flight. */
  SystemError allocate(uint32_t stride, uint32_t slotCount) {
    auto memory = Mapping::ofMemory(static_cast<size_t>(stride) * slotCount, PROT_READ | PROT_WRITE);
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    base_ = memory_.bytes();
    stride_ = stride;
    keepLengths(slotCount);
    return NO_ERROR;
  }

  /** From now on the lengths are kept here and not by the host. */
  void keepLengths(uint32_t slotCount) {
    ownLengths_.assign(slotCount, 0);
    lengths_ = ownLengths_.data();
    busy_.assign(slotCount, 0);
  }

  void announce(uint32_t slot, uint32_t length) { ownLengths_[slot] = static_cast<int32_t>(length); }

  /** May `length` bytes at `offset` of the slot's buffer be touched now? */
  bool admits(uint32_t slot, uint32_t offset, uint32_t length) const {
    if (slot >= busy_.size()) return false;
    const int32_t announced = lengths_[slot];
    if (announced <= 0 || static_cast<uint32_t>(announced) > stride_) return false;
    return static_cast<uint64_t>(offset) + length <= static_cast<uint32_t>(announced);
  }

  /** Only after `admits`. */
  uint8_t* at(uint32_t slot, uint32_t offset) const { return base_ + static_cast<size_t>(slot) * stride_ + offset; }

  /** Operations that use the slot's buffer right now: until there are none, it must not go to another request. */
  uint32_t busy(uint32_t slot) const { return busy_[slot]; }
  void acquire(uint32_t slot) { ++busy_[slot]; }
  void release(uint32_t slot) { --busy_[slot]; }

  uint32_t stride() const { return stride_; }
  uint32_t slotCount() const { return static_cast<uint32_t>(busy_.size()); }
  bool attached() const { return base_ != nullptr; }

 private:
  Mapping memory_;
  uint8_t* base_ = nullptr;
  uint32_t stride_ = 0;
  const int32_t* lengths_ = nullptr;
  std::vector<int32_t> ownLengths_;
  std::vector<uint32_t> busy_;
};

}  // namespace corral
