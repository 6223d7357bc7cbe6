// What one serving thread owns: a ring, the image file, the guest's buffers, perhaps a ublk queue, and the one call
// that moves everything on.

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "events.hpp"
#include "file-operations.hpp"
#include "guest-buffers.hpp"
#include "owned.hpp"
#include "ublk-queue.hpp"
#include "uring.hpp"

namespace corral {

/** Memory that a BlockRing shares with its host. All of it must outlive the ring. */
struct BlockRingOptions {
  CoreMemory memory;
  /** What the host asks for: a head (number of entries, TurnMode) and the entries. Numbers are of quads, head included. */
  const int32_t* outgoing = nullptr;
  uint32_t outgoingQuads = 0;
  /** What has happened: a head (number of events) and the events. */
  int32_t* events = nullptr;
  uint32_t eventQuads = 0;
};

/** How a turn ends. */
enum class TurnMode : int32_t {
  /** With what is there. */
  Poll = 0,
  /** With at least one event. */
  Wait = 1,
  /** With nothing: the entries are taken over, and what they lead to comes with the next turn. */
  Apply = 2,
};

class BlockRing {
 public:
  static Result<std::unique_ptr<BlockRing>> create(const BlockRingOptions& options);
  BlockRing(const BlockRing&) = delete;
  ~BlockRing() { close(); }

  SystemError setFile(abi::OperationFile file, int number, const FileUse& use) {
    return files_.setFile(file, number, use);
  }

  /** Buffers of the host for request slots; see GuestBuffers::attach. Pinned in the kernel where its limits allow. */
  SystemError setGuestBuffers(uint8_t* base, size_t length, uint32_t stride, uint32_t firstSlot,
                              const int32_t* lengths);

  /** Scratch buffers of the core, of so many bytes each. */
  SystemError setScratch(uint32_t length) { return files_.setScratch(length); }
  /** The same in memory of the host, which other rings use, too: what one has read there another one writes. */
  SystemError shareScratch(uint8_t* base, size_t length) { return files_.shareScratch(base, length); }

  /**
   * Another core takes the place of the one before, with as many records. Requests that nobody has begun to serve stay in
   * their slots. Refused while an operation is under way.
   */
  SystemError setMemory(const CoreMemory& memory);

  /**
   * Ends an operation of a Help event with the bytes that it wanted, or without any when `bytes` is null: its buffer is
   * free again, and the answer of a request that waited for it goes out with the next turn.
   *
   * @returns false when no such operation waits, or the number of bytes is another one: nothing was delivered
   */
  bool deliver(uint32_t operation, const uint8_t* bytes, size_t length);

  SystemError attachQueue(const UblkQueueOptions& options) { return queue_.attach(options); }
  /** Of the queue's char device; -1 without one. */
  int deviceNumber() const { return queue_.deviceNumber(); }
  void setDeviceSize(uint64_t size) { queue_.setDeviceSize(size); }
  SystemError pretendQueue(const UblkQueueOptions& options, const ublk::RequestDescriptor* descriptors,
                           int32_t* answers, int device) {
    return queue_.pretend(options, descriptors, answers, device);
  }
  /** Lets a pretended queue's fetch end in the next turn. */
  void pretendFetched(uint32_t tag, int32_t result) { pretended_.push_back({tag, result}); }

  /**
   * Carries out the outgoing entries, hands everything to the kernel, and reports what has happened: everything goes in
   * and out through the quads, heads included. An error means that the ring itself has failed.
   */
  SystemError turn();

  /** Makes the current or next waiting turn return with a Control event. From any thread. */
  void wake() const;
  int wakeNumber() const { return wakeFile_.number(); }

  /**
   * Waits for the operations under way, gives files and device back, and ends the ring. Requests of a ublk queue that
   * were not answered stay so: the kernel treats them as those of a dead server.
   */
  void close();
  bool closed() const { return !ring_; }

  uint64_t violations() const { return files_.violations() + violations_; }
  uint64_t malformed() const { return queue_.malformed(); }
  uint32_t operationsInFlight() const { return files_.inFlight(); }
  uint32_t setupFlags() const { return ring_.setupFlags(); }

 private:
  explicit BlockRing(const BlockRingOptions& options, Uring&& ring);
  SystemError prepare();
  void apply(const int32_t* quad, bool alone);
  void watchWake();
  void reap();
  void dispatch(uint64_t userData, int32_t result);
  void fetched(uint32_t tag, Fetched outcome);

  struct PretendedFetch {
    uint32_t tag;
    int32_t result;
  };

  BlockRingOptions options_;
  Uring ring_;
  Events events_;
  GuestBuffers guest_;
  FileOperations files_;
  UblkQueue queue_;
  FileDescriptor wakeFile_;
  bool closing_ = false;
  /** Turns since the kernel was entered. */
  uint32_t turnsOutside_ = 0;
  std::vector<PretendedFetch> pretended_;
  uint64_t violations_ = 0;
};

}  // namespace corral
