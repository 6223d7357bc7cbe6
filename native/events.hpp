// What a turn reports: quads of numbers in memory that JavaScript reads. The first quad is the head: how many follow.

#pragma once

#include <cerrno>
#include <cstdint>
#include <vector>

#include "abi.hpp"

namespace corral {

/** First number of an event. The other three are named here per type. */
enum class EventType : int32_t {
  /** An operation ended: its index, its Status, its errno or 0. */
  Operation = 1,
  /** The kernel has a request: its slot; the Request record is written. */
  Request = 2,
  /** Somebody called `wake`. */
  Control = 3,
  /** Every tag of the ublk queue came back for good: an errno, or 0 when the device was stopped in order. */
  QueueStopped = 4,
  /** An operation that the host carries out, not the ring: its index, the bytes that it wants, its OperationKind. */
  Help = 5,
  /** A request of the kernel made no sense, and was refused: its slot, its operation and flags, its number of sectors. */
  Malformed = 6,
};

/** First number of an outgoing entry. */
enum class OutgoingType : int32_t {
  /** Carry out operation record a. */
  Operation = 1,
  /** Zero c bytes at offset b of the guest buffer of slot a. */
  Fill = 2,
  /** The kernel's request in slot a is done: b is a negative errno, or the bytes moved (0: all of them). */
  Finish = 3,
};

/** Numbers of an outgoing entry or event. */
inline constexpr uint32_t QUAD = 4;

/**
 * The events of one turn. The host reads the quads between two turns, so what does not fit, or happens outside a turn,
 * waits for the next one.
 */
class Events {
 public:
  Events() = default;
  /** @param quadCount quads at `quads`, the head included */
  Events(int32_t* quads, uint32_t quadCount) : quads_(quads), capacity_(quadCount - 1) {}

  /** Starts a turn with what is waiting. */
  void begin() {
    count_ = 0;
    open_ = true;
    if (waiting_.empty()) return;
    std::vector<Event> late;
    late.swap(waiting_);
    for (const Event& event : late) push(event.type, event.a, event.b, event.c);
  }

  /** Ends a turn: the quads are the host's. */
  void end() {
    open_ = false;
    quads_[0] = static_cast<int32_t>(count_);
  }

  void push(EventType type, int32_t a, int32_t b, int32_t c) {
    if (!open_ || full()) {
      waiting_.push_back({type, a, b, c});
      return;
    }
    int32_t* quad = quads_ + ++count_ * QUAD;
    quad[0] = static_cast<int32_t>(type);
    quad[1] = a;
    quad[2] = b;
    quad[3] = c;
  }

  /** An operation ended well, or with the Status that stands for an errno. */
  void operationDone(uint32_t index, int errorNumber) {
    push(EventType::Operation, static_cast<int32_t>(index), static_cast<int32_t>(statusOf(errorNumber)), errorNumber);
  }

  bool full() const { return count_ == capacity_; }
  uint32_t count() const { return count_; }

  static abi::Status statusOf(int errorNumber) {
    switch (errorNumber) {
      case 0:
        return abi::Status::Ok;
      case ENOSPC:
      case EDQUOT:
        return abi::Status::NoSpace;
      case ECANCELED:
        return abi::Status::Cancelled;
      case EFBIG:
        return abi::Status::TooLarge;
      default:
        return abi::Status::InputOutput;
    }
  }

 private:
  struct Event {
    EventType type;
    int32_t a, b, c;
  };

  int32_t* quads_ = nullptr;
  uint32_t capacity_ = 0;
  uint32_t count_ = 0;
  bool open_ = false;
  std::vector<Event> waiting_;
};

}  // namespace corral
