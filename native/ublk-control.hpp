// The control plane of ublk: one function a command, each blocking until the driver has answered.
//
// Commands go through a small ring of their own that lives as long as the call, so that calls from any thread can run
// side by side.

#pragma once

#include <cstdint>

#include "result.hpp"
#include "ublk-abi.hpp"

namespace corral {

/** What ADD_DEV asks for. */
struct UblkDeviceRequest {
  /** ublk::ANY_DEVICE: the driver chooses. */
  uint32_t deviceId = ublk::ANY_DEVICE;
  uint16_t queueCount = 1;
  uint16_t queueDepth = 128;
  uint32_t maxIoBytes = 512 << 10;
  /** ublk::FEATURE_ bits. */
  uint64_t flags = 0;
  /** Any number: GET_DEV_INFO gives it back. */
  uint64_t mark = 0;
};

/** What a device offers besides reads, writes and flushes. All in bytes. */
struct UblkDiscardLimits {
  /** 0: neither DISCARD nor WRITE_ZEROES. */
  uint32_t granularity = 0;
  /** Longest of each; 0: not offered. */
  uint32_t maxDiscard = 0;
  uint32_t maxZeroes = 0;
};

/** Bits of what the driver can do; ENOENT when there is no driver, EACCES without permission. */
Result<uint64_t> ublkFeatures();

/** Makes the char device. The answer says what was granted. */
Result<ublk::DeviceInfo> ublkAdd(const UblkDeviceRequest& request);
SystemError ublkSetParameters(uint32_t deviceId, const ublk::BasicParameters& parameters,
                              const UblkDiscardLimits& limits);
Result<ublk::BasicParameters> ublkParameters(uint32_t deviceId);

/** Keeps the calling thread on the processors whose requests a queue gets. */
SystemError ublkPinThread(uint32_t deviceId, uint16_t queueId);

/** Makes the block device; needs every queue to be fetching, by other threads. Gives up after a minute. */
SystemError ublkStart(uint32_t deviceId, int32_t serverProcess);

/** Takes over a device whose server died: its queues can be fetched anew then. EBUSY while the dead one still holds it. */
SystemError ublkStartRecovery(uint32_t deviceId);

/** The block device goes on; as `ublkStart` otherwise. */
SystemError ublkEndRecovery(uint32_t deviceId, int32_t serverProcess);

/** The block device has another capacity from now on. EOPNOTSUPP where the driver cannot. */
SystemError ublkUpdateSize(uint32_t deviceId, uint64_t sectors);

/** Requests wait from now on, and the queues are over once those under way are: another server may take the device. */
SystemError ublkQuiesce(uint32_t deviceId, uint32_t milliseconds);

/** Removes the block device. Its queues must go on serving until their fetches come back aborted. */
SystemError ublkStop(uint32_t deviceId);

/** Removes the char device; waits until its server has closed it. */
SystemError ublkDelete(uint32_t deviceId);
Result<ublk::DeviceInfo> ublkInfo(uint32_t deviceId);

}  // namespace corral
