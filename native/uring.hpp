// One io_uring through the raw system calls: prepare submissions, enter the kernel, look at completions.
//
// It knows nothing of Node, files or ublk. Facts: io_uring_setup(2), io_uring_enter(2), io_uring_register(2) and
// linux/io_uring.h. What newer kernels added after the header of Debian 12 is defined in the source file.

#pragma once

#include <linux/io_uring.h>

#include <atomic>
#include <cstdint>

#include "owned.hpp"
#include "result.hpp"

namespace corral {

/** What a ring is made for. */
struct UringOptions {
  /** Submissions between two enters before `prepare` enters by itself; the kernel rounds up to a power of two. */
  uint32_t submissionCapacity = 64;
  /** Requests that can be in the kernel at once. The completion queue holds as many: nothing is ever lost. */
  uint32_t completionCapacity = 64;
  /** Submissions of 128 bytes, which ublk's control commands need. */
  bool wideSubmissions = false;
};

/**
 * One ring, used by the thread that created it and by no other one.
 *
 * The submission entries are handed out from the start of their array again whenever all of them have gone to the
 * kernel, so that at low depth only a few cache lines are ever touched.
 */
class Uring {
 public:
  static Result<Uring> create(const UringOptions& options);
  Uring() = default;
  Uring(Uring&&) noexcept = default;
  Uring& operator=(Uring&&) noexcept = default;

  /**
   * A zeroed submission entry that goes out with the next `enter`. When the ring is full, what is in it goes out now. On
   * a ring that fails the entry leads nowhere, and the next `enter` says why.
   */
  io_uring_sqe& prepare();

  /** Prepared entries that the kernel has not taken yet. */
  uint32_t pending() const { return tail_ - loadAcquire(submissionHead_); }

  /** Completions that can be looked at without entering the kernel. */
  uint32_t ready() const { return loadAcquire(completionTail_) - head_; }

  /** The kernel holds completions back because the queue was full; the next `enter` brings them. */
  bool overflowed() const;

  /**
   * Hands the prepared entries to the kernel and waits until `minimum` completions are ready (0: does not wait).
   * Comes back early without an error when a signal arrived. Errors: as io_uring_enter(2), never EINTR.
   */
  SystemError enter(uint32_t minimum);

  /** The next completion; valid until `advance`. Only when `ready()` says that there is one. */
  const io_uring_cqe& front() const { return completions_[head_ & completionMask_]; }
  void advance() {
    ++head_;
    std::atomic_ref<uint32_t>(*completionHead_).store(head_, std::memory_order_release);
  }

  /** Makes a table of `count` registered files, all empty. */
  SystemError registerFileTable(uint32_t count);
  /** Puts a descriptor (or -1: nothing) into the table. The kernel holds the file open by itself. */
  SystemError registerFile(uint32_t index, int number);
  /** Pins memory as fixed buffer 0. */
  SystemError registerBuffer(void* address, size_t length);
  /** Makes a table of `count` fixed buffers, all empty: the kernel fills it. */
  SystemError registerBufferTable(uint32_t count);
  void unregisterBuffers();

  /** True when the kernel knows this IORING_OP. */
  bool supports(uint8_t opcode) const;

  int number() const { return ring_.number(); }
  /** IORING_SETUP flags that the kernel took. */
  uint32_t setupFlags() const { return setupFlags_; }
  explicit operator bool() const { return static_cast<bool>(ring_); }

 private:
  static uint32_t loadAcquire(uint32_t* word) {
    return std::atomic_ref<uint32_t>(*word).load(std::memory_order_acquire);
  }
  SystemError map(const io_uring_params& parameters);
  void probe();
  bool makeRoom();

  /** Keeps the ring registered with this thread; a ring that stays registered would outlive its descriptor. */
  class Registration {
   public:
    Registration() = default;
    Registration(int ring, uint32_t index) : ring_(ring), index_(index) {}
    Registration(Registration&& other) noexcept : ring_(std::exchange(other.ring_, -1)), index_(other.index_) {}
    Registration& operator=(Registration&& other) noexcept {
      std::swap(ring_, other.ring_);
      std::swap(index_, other.index_);
      return *this;
    }
    ~Registration();

   private:
    int ring_ = -1;
    uint32_t index_ = 0;
  };

  FileDescriptor ring_;
  Registration registration_;
  Mapping submissionRing_;
  Mapping completionRing_;
  Mapping entries_;

  // Words that the kernel shares; see io_sqring_offsets and io_cqring_offsets.
  uint32_t* submissionHead_ = nullptr;
  uint32_t* submissionTail_ = nullptr;
  uint32_t* submissionFlags_ = nullptr;
  uint32_t* submissionArray_ = nullptr;
  uint32_t* completionHead_ = nullptr;
  uint32_t* completionTail_ = nullptr;
  io_uring_cqe* completions_ = nullptr;

  uint32_t submissionMask_ = 0;
  uint32_t completionMask_ = 0;
  uint32_t submissionCapacity_ = 0;
  /** log2 of the bytes of one submission entry. */
  uint32_t entryBits_ = 6;
  /** Our copy of the submission queue's tail; the kernel learns it in `enter`. */
  uint32_t tail_ = 0;
  /** Our copy of the completion queue's head. */
  uint32_t head_ = 0;
  /** Entries of the array handed out since all of them had last gone to the kernel. */
  uint32_t used_ = 0;
  uint32_t setupFlags_ = 0;
  uint32_t enterFlags_ = 0;
  /** What io_uring_enter is called with: the descriptor, or its registered index. */
  int enterNumber_ = -1;
  uint64_t supported_[4] = {};
  /** What is written into when the ring fails; as large as the wide kind. */
  io_uring_sqe nowhere_[2] = {};
};

}  // namespace corral
