// Where the bytes of each guest request lie, how they get there, and how many of them may be touched: the data path.
//
// Every slot has a buffer in memory. How its bytes and the kernel's meet, the path says:
// - Host: the buffer is the host program's, there is no kernel.
// - Plain: the ublk driver copies them, when a write is fetched and when a read is answered.
// - UserCopy: as that, by a plain read or write of the char device from here.
// - ZeroCopy: the pages of a request are in the ring's table of buffers, and file operations go there directly. What must
//   be in memory (zeros, what a library made, a write with surroundings) is copied as with UserCopy, range by range.

#pragma once

#include <cstdint>
#include <vector>

#include "owned.hpp"

namespace corral {

enum class DataPath : uint8_t { Host = 0, Plain = 1, UserCopy = 2, ZeroCopy = 3 };

/**
 * One buffer a request slot, all in one stretch of memory, for the slots from `firstSlot` on. A slot's buffer may be used
 * while a request is in flight in it, and never beyond the length which that request announced.
 */
class GuestBuffers {
 public:
  /**
   * Buffers in memory of the host program. `lengths` (one number a slot, 0: no request in flight) is the host's to
   * keep up to date and is read at every check. Both must outlive this object or the next `attach`.
   */
  void attach(uint8_t* base, uint32_t stride, uint32_t firstSlot, uint32_t slotCount, const int32_t* lengths);

  /** Own buffers, lazily populated, page aligned; `announce` says what is in flight. */
  SystemError allocate(uint32_t stride, uint32_t firstSlot, uint32_t slotCount);

  /** Where the kernel's bytes are from now on: those of tag n, in slot n from the first on. */
  void setKernel(DataPath path, int device, uint16_t queueId);

  /** From now on the lengths are kept here and not by the host. */
  void keepLengths(uint32_t slotCount);

  /**
   * A request of the kernel is in flight in this slot.
   *
   * @param isRead it has to be filled; else its bytes come from the kernel
   * @param registered its pages are in the ring's table, at the slot's number from the first one on
   * @returns 0, or the errno with which its bytes cannot be had
   */
  int begin(uint32_t slot, uint32_t length, bool isRead, bool registered);

  /**
   * The request of this length has been served well: brings its bytes to where the kernel finds them.
   *
   * @returns 0, or the errno with which it must be answered. EIO also when parts of a read were not filled: they would
   * show whoever reads what the kernel had in its memory.
   */
  int complete(uint32_t slot, uint32_t length);

  /** Nothing more may start in this slot. */
  void end(uint32_t slot) { ownLengths_[slot - firstSlot_] = 0; }

  /** May `length` bytes at `offset` of the slot's buffer be touched now? */
  bool admits(uint32_t slot, uint32_t offset, uint32_t length) const {
    if (slot - firstSlot_ >= busy_.size()) return false;
    const int32_t announced = lengths_[slot - firstSlot_];
    if (announced <= 0 || static_cast<uint32_t>(announced) > stride_) return false;
    return static_cast<uint64_t>(offset) + length <= static_cast<uint32_t>(announced);
  }

  // The rest only after `admits`.

  /** The slot's buffer in memory. */
  uint8_t* at(uint32_t slot, uint32_t offset) const {
    return base_ + static_cast<size_t>(slot - firstSlot_) * stride_ + offset;
  }
  uint32_t offsetOf(uint32_t slot, const uint8_t* place) const { return static_cast<uint32_t>(place - at(slot, 0)); }

  /** The request's pages can be named by their index in the ring's table of buffers. */
  bool registered(uint32_t slot) const { return path_ == DataPath::ZeroCopy && registered_[slot - firstSlot_] != 0; }
  uint16_t tableIndex(uint32_t slot) const { return static_cast<uint16_t>(slot - firstSlot_); }

  /** Brings a range of the kernel's into memory, before it is used there. Returns 0 or an errno. */
  int bring(uint32_t slot, uint32_t offset, uint32_t length) {
    return path_ == DataPath::ZeroCopy ? copyIn(slot, offset, length) : 0;
  }
  /** A range of the buffer in memory has been filled. Returns 0 or an errno. */
  int filled(uint32_t slot, uint32_t offset, uint32_t length);
  /** A range of the request's own pages has been filled. */
  void filledDirectly(uint32_t slot, uint32_t offset, uint32_t length) { note(slot, offset, length); }
  /** Fills a range with zeros. Returns 0 or an errno. */
  int zero(uint32_t slot, uint32_t offset, uint32_t length);

  /** Operations that use the slot's buffer right now: until there are none, it must not go to another request. */
  uint32_t busy(uint32_t slot) const { return busy_[slot - firstSlot_]; }
  void acquire(uint32_t slot) { ++busy_[slot - firstSlot_]; }
  void release(uint32_t slot) { --busy_[slot - firstSlot_]; }

  uint32_t stride() const { return stride_; }
  uint32_t firstSlot() const { return firstSlot_; }
  uint32_t slotCount() const { return static_cast<uint32_t>(busy_.size()); }
  bool attached() const { return base_ != nullptr; }

 private:
  /** What of a read is filled already, where the pages are the kernel's. */
  struct Coverage {
    /** Bytes from the start on; the usual read is one such piece. */
    uint32_t prefix = 0;
    /** Something was filled behind `prefix`: one bit a sector says what. */
    bool scattered = false;
    std::vector<uint64_t> sectors;
  };

  int copyIn(uint32_t slot, uint32_t offset, uint32_t length) const;
  int copyOut(uint32_t slot, uint32_t offset, uint32_t length) const;
  uint64_t position(uint32_t slot, uint32_t offset) const;
  void note(uint32_t slot, uint32_t offset, uint32_t length);
  bool covered(uint32_t slot, uint32_t length) const;

  Mapping memory_;
  uint8_t* base_ = nullptr;
  uint32_t stride_ = 0;
  uint32_t firstSlot_ = 0;
  DataPath path_ = DataPath::Host;
  int device_ = -1;
  uint16_t queueId_ = 0;
  const int32_t* lengths_ = nullptr;
  std::vector<int32_t> ownLengths_;
  std::vector<uint32_t> busy_;
  std::vector<uint8_t> reads_;
  std::vector<uint8_t> registered_;
  std::vector<Coverage> coverage_;
};

}  // namespace corral
