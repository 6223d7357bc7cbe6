// Carries out the core's operations on the image file.
//
// This is the trust boundary: the record comes out of the sandbox, so it is copied once and every number in the copy is
// checked before anything is done. A record that asks for too much is answered with Status.Invalid and counted.

#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "abi.hpp"
#include "aligned-file.hpp"
#include "direct-file.hpp"
#include "events.hpp"
#include "forbidden-start.hpp"
#include "guest-buffers.hpp"
#include "owned.hpp"
#include "running-operation.hpp"
#include "uring.hpp"

namespace corral {

/** The core's memory and where the records lie in it. */
struct CoreMemory {
  uint8_t* base = nullptr;
  size_t length = 0;
  uint32_t operations = 0;
  uint32_t operationCapacity = 0;
  uint32_t requests = 0;
  uint32_t requestCapacity = 0;

  /** True when both tables of records lie inside the memory and are aligned. */
  bool consistent() const;
};

/** How a file is used. */
struct FileUse {
  bool writable = false;
  /** A flush of it does nothing: the host said that a crash of the machine may cost what was written. */
  bool ignoresFlushes = false;
  /** Writes of a guest that would make the file begin like this are refused with EPERM. */
  ForbiddenStart forbidden;
};

/** Values of OperationFile. */
inline constexpr size_t FILE_KINDS = 2;

/**
 * Runs operations: at once where that is cheaper, else through a ring, one submission at a time for each, continued until
 * all bytes have moved.
 */
class FileOperations {
 public:
  /**
   * @param tag what marks this object's submissions in the upper half of their user data
   * @param registeredFiles index of each OperationFile in the ring's table of registered files
   */
  FileOperations(Uring& ring, Events& events, GuestBuffers& guest, const CoreMemory& memory, uint64_t tag,
                 const uint32_t (&registeredFiles)[FILE_KINDS]);

  /** Makes the memory from which zeros are written. */
  SystemError prepare();

  /** The file that operations mean from now on. Keeps a descriptor of its own until `dropFiles`. */
  SystemError setFile(abi::OperationFile file, int number, const FileUse& use);
  void dropFiles();

  /** Makes the scratch buffers of the core, each `length` bytes; the memory comes into being when it is first used. */
  SystemError setScratch(uint32_t length);
  /** The same in memory of the host's, all of them in a row; it must outlive this object. */
  SystemError shareScratch(uint8_t* base, size_t length);

  /** Fixed buffer 0 of the ring covers the guest buffers. */
  void setGuestRegistered(bool registered) { guestRegistered_ = registered; }

  /**
   * Starts operation record `index`; its end is an event.
   *
   * @param alone no other operation starts with it
   */
  void start(uint32_t index, bool alone);

  /**
   * Ends an operation that was handed to the host as a Help event, with the bytes that it wanted, or without when `bytes`
   * is null. Its completion is then the host's to tell the core.
   *
   * @param slot the slot whose buffer it used and no longer does, or -1
   * @returns false when no such operation waits, or wants another number of bytes: nothing was delivered
   */
  bool deliver(uint32_t index, const uint8_t* bytes, size_t length, int64_t* slot);

  /** A submission of operation `index` ended. Returns the slot whose buffer it used and no longer does, or -1. */
  int64_t completed(uint32_t index, int32_t result);

  /** Operations between `start` and their end. */
  uint32_t inFlight() const { return inFlight_; }
  /** Those of them whose end is a completion of the ring. */
  uint32_t inRing() const { return inFlight_ - helped_; }
  /** Operations refused because they asked for something that is not theirs. */
  uint64_t violations() const { return violations_; }

 private:
  /** One of the files that operations can mean. */
  struct Target {
    /** Index in the ring's table of registered files. */
    uint32_t registered = 0;
    FileDescriptor descriptor;
    FileUse use;
    /** The file system refused FALLOC_FL_ZERO_RANGE once (tmpfs does). */
    bool zeroRangeRefused = false;
    DirectFile direct;
    AlignedFile aligned;
  };

  bool admit(const abi::Operation& record, RunningOperation& running) const;
  bool admitHelp(const abi::Operation& record, RunningOperation& running) const;
  bool admitBuffer(const abi::Operation& record, uint64_t length, RunningOperation& running) const;
  bool admitEdges(const abi::Operation& record, RunningOperation& running) const;
  uint8_t* scratch(uint32_t number, uint64_t offset, uint64_t length) const;
  size_t lastFile() const { return targets_[FILE_KINDS - 1].descriptor ? FILE_KINDS - 1 : 0; }
  Target& targetOf(const RunningOperation& running) { return targets_[running.file]; }
  void askHost(uint32_t index, RunningOperation& running);
  int64_t submit(uint32_t index, RunningOperation& running);
  void fillTransfer(io_uring_sqe& entry, const RunningOperation& running, uint8_t opcode, uint8_t fixedOpcode) const;
  void fillGather(io_uring_sqe& entry, uint32_t index);
  void chooseMemory(RunningOperation& running) const;
  bool watches(const RunningOperation& running) const;
  bool isForbidden(const RunningOperation& running) const;
  int leaveDirect(RunningOperation& running);
  int bring(const RunningOperation& running);
  int markFilled(const RunningOperation& running);
  int fillRest(const RunningOperation& running);
  int64_t finish(uint32_t index, RunningOperation& running, int errorNumber);

  Uring& ring_;
  Events& events_;
  GuestBuffers& guest_;
  const CoreMemory& memory_;
  uint64_t tag_;
  Target targets_[FILE_KINDS];
  bool guestRegistered_ = false;
  bool truncateInRing_ = false;
  Mapping zeros_;
  Mapping ownScratch_;
  uint8_t* scratch_ = nullptr;
  /** Bytes of each scratch buffer; 0 while there are none. */
  uint32_t scratchLength_ = 0;
  std::vector<RunningOperation> running_;
  /** Where the kernel finds the pieces of a gathered write until its completion; one of these an operation. */
  struct Pieces {
    iovec vectors[MAX_PIECES];
  };
  std::vector<Pieces> pieces_;
  uint32_t inFlight_ = 0;
  /** Operations in the host's hands. */
  uint32_t helped_ = 0;
  uint64_t violations_ = 0;
};

}  // namespace corral
