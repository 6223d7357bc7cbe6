// One queue of a ublk device: the kernel's requests become Request records, answers go back.
//
// A tag is always in one of three hands: the driver's (a fetch is in the ring), ours (a request is being served), or
// nobody's (it came back aborted). Descriptors are the kernel's, but they are checked like everything else here.

#pragma once

#include <cstdint>
#include <vector>

#include "file-operations.hpp"
#include "guest-buffers.hpp"
#include "owned.hpp"
#include "ublk-abi.hpp"
#include "uring.hpp"

namespace corral {

/** What a queue is for. */
struct UblkQueueOptions {
  uint32_t deviceId = 0;
  uint16_t queueId = 0;
  /** Tags; tag n is request slot firstSlot + n. */
  uint32_t depth = 0;
  uint32_t firstSlot = 0;
  uint32_t maxIoBytes = 0;
  /** Bytes of the block device. */
  uint64_t deviceSize = 0;
  /** Zeros that are written may give host clusters back, unless the kernel forbids it. */
  bool unmap = true;
  /** Every change is durable before it is answered. */
  bool durable = false;
  /** Not Host. The device must have been made for it. */
  DataPath path = DataPath::Plain;
  /** With ZeroCopy: the driver registers each request's buffer before it hands the request out. */
  bool autoBuffers = false;
  /** The open char device, of which there can be one only; -1 for the first queue, which opens it. */
  int device = -1;
  /** The serving thread stays on the processors whose requests the queue gets. */
  bool pinned = false;
  /** Every request is answered as done at once, and reads bring what was there: measures what the way here costs. */
  bool answersNothing = false;
};

/** What became of a fetch. */
enum class Fetched {
  /** The tag's Request record is filled in: the core's turn. */
  Request,
  /** The request's buffer is being registered: `registered` goes on. */
  Waits,
  /** The request was answered here. */
  Answered,
  /** So was this, with an error: its descriptor, `lastMalformed`, made no sense. */
  Malformed,
  /** The tag is gone; others are not. */
  Gone,
  /** The last tag is gone. */
  Stopped,
};

class UblkQueue {
 public:
  /**
   * @param tag what marks this object's submissions in the upper half of their user data
   * @param registration the same for submissions that register a buffer
   * @param registeredFile index of the char device in the ring's table of registered files
   */
  UblkQueue(Uring& ring, GuestBuffers& guest, const CoreMemory& memory, uint64_t tag, uint64_t registration,
            uint32_t registeredFile)
      : ring_(ring),
        guest_(guest),
        memory_(memory),
        tag_(tag),
        registration_(registration),
        registeredFile_(registeredFile) {}

  /** Opens the device's char device, or shares it, makes the buffers and fetches with every tag. From the serving thread only. */
  SystemError attach(const UblkQueueOptions& options);

  /**
   * A queue without a kernel, for tests: descriptors from plain memory, answers into `answers` (one number a tag).
   * The guest buffers must be attached. Both must outlive the queue.
   *
   * @param device any file in the place of the char device, or -1 where the path does without
   */
  SystemError pretend(const UblkQueueOptions& options, const ublk::RequestDescriptor* descriptors, int32_t* answers,
                      int device);

  /** A fetch of this tag ended with this result. */
  Fetched fetched(uint32_t tag, int32_t result);

  /** Registering this tag's buffer ended with this result: Request, or Answered. Without a buffer, bytes are copied. */
  Fetched registered(uint32_t tag, int32_t result);

  /**
   * Answers the request in a slot: a negative errno or the bytes moved (0: all). Held back while operations still use
   * the slot's buffer. False when no request is in that slot.
   */
  bool finish(uint32_t slot, int32_t result);

  /** A buffer of this slot is no longer in use: sends the answer that was held back for it. */
  void released(uint32_t slot);

  /** Serving this slot went wrong in a way that the core does not know of: its request will be answered with -EIO. */
  void spoil(uint32_t slot);

  /** The block device is so many bytes long from now on: requests may reach as far. */
  void setDeviceSize(uint64_t size) { options_.deviceSize = size; }

  void close();
  /** Of the char device, for further queues; -1 without one. */
  int deviceNumber() const { return device_.number(); }
  bool attached() const { return !tags_.empty(); }
  uint32_t firstSlot() const { return options_.firstSlot; }
  /** Requests between their fetch and their answer. */
  uint32_t inService() const { return inService_; }
  /** Descriptors that made no sense. */
  uint64_t malformed() const { return malformed_; }
  const ublk::RequestDescriptor& lastMalformed() const { return lastMalformed_; }
  /** First errno with which a tag came back other than as the driver's normal end, or 0. */
  int failure() const { return failure_; }

 private:
  struct Tag {
    uint32_t length = 0;
    int32_t heldResult = 0;
    bool inService = false;
    bool held = false;
    bool spoiled = false;
    bool isRead = false;
    /** Its buffer was registered by a command of ours, and another one has to take that back. */
    bool registered = false;
  };

  SystemError check(const UblkQueueOptions& options) const;
  static Result<FileDescriptor> openDevice(const UblkQueueOptions& options);
  int32_t translate(uint32_t tag);
  Fetched begin(uint32_t tag, bool registered);
  void answer(uint32_t tag, int32_t result);
  io_uring_sqe& command(uint32_t tag, uint32_t opcode, int32_t result, uint64_t address);
  void fetch(uint32_t tag, uint32_t opcode, int32_t result);

  Uring& ring_;
  GuestBuffers& guest_;
  const CoreMemory& memory_;
  uint64_t tag_;
  uint64_t registration_;
  uint32_t registeredFile_;
  UblkQueueOptions options_;
  FileDescriptor device_;
  Mapping descriptorMemory_;
  const ublk::RequestDescriptor* descriptors_ = nullptr;
  /** Of a queue without a kernel. */
  int32_t* answers_ = nullptr;
  std::vector<Tag> tags_;
  uint32_t gone_ = 0;
  uint32_t inService_ = 0;
  uint64_t malformed_ = 0;
  ublk::RequestDescriptor lastMalformed_{};
  int failure_ = 0;
};

}  // namespace corral
