// The image file by plain system calls, for what they do better than a ring.
//
// A read that the page cache can answer, and a write that it can take, cost less as one call than as a submission and a
// completion, as long as there is no batch to share the ring's cost. A file system that lives in memory never makes anybody wait, and io_uring hands
// each of its operations to a helper thread. And what a ring refuses again and again, a plain call does in the end.

#pragma once

#include <cstdint>

#include "running-operation.hpp"

namespace corral {

class DirectFile {
 public:
  /** @param zeros ZEROS_LENGTH zero bytes; both the descriptor and the zeros must outlive the next call of this */
  void setFile(int number, uint8_t* zeros);

  /**
   * Carries out the rest of an operation if that can be had at once.
   *
   * @param alone nothing else is going to the kernel with it
   * @param result as a completion of the ring would give it: bytes moved, or a negative errno
   * @returns false when it was not done
   */
  bool attempt(const RunningOperation& operation, bool alone, int32_t* result);

  /** The operation is a copy in memory that `attempt` does. */
  bool copies(const RunningOperation& operation) const;

  /** Carries out the rest of an operation and waits as long as it takes; result as a completion would give it. */
  int32_t carryOut(const RunningOperation& operation);

 private:
  /** When to try: after an attempt that was not worth it more and more of them are left out. */
  struct Attempts {
    uint32_t skip = 0;
    uint32_t lastSkip = 0;

    bool leavesOut();
    void wasGood(bool good);
  };

  bool attemptRead(const RunningOperation& operation, int32_t* result);
  bool attemptWrite(const RunningOperation& operation, int32_t* result);
  int32_t read(const RunningOperation& operation, int flags) const;
  int32_t write(const RunningOperation& operation);
  bool zeroAround(const RunningOperation& operation);
  bool punchAround(const RunningOperation& operation) const;

  int number_ = -1;
  uint8_t* zeros_ = nullptr;
  /** Every operation of this file is a copy in memory. */
  bool inMemory_ = false;
  /** The file system can say that it would have to wait. */
  bool saysWhenItWaits_ = false;
  /** A buffered write is a copy into the page cache. */
  bool copiesWrites_ = false;
  /** The file system cannot zero a range without writing. */
  bool zeroRangeRefused_ = false;
  Attempts reads_;
  Attempts writes_;
};

}  // namespace corral
