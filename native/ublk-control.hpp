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
};

/** Bits of what the driver can do; ENOENT when there is no driver, EACCES without permission. */
Result<uint64_t> ublkFeatures();

/** Makes the char device. The answer says what was granted. */
Result<ublk::DeviceInfo> ublkAdd(const UblkDeviceRequest& request);
/** @param discardGranularity bytes; 0 offers neither DISCARD nor WRITE_ZEROES */
SystemError ublkSetParameters(uint32_t deviceId, const ublk::BasicParameters& parameters, uint32_t discardGranularity);
Result<ublk::BasicParameters> ublkParameters(uint32_t deviceId);

/** Makes the block device; needs every queue to be fetching, by other threads. Gives up after a minute. */
SystemError ublkStart(uint32_t deviceId, int32_t serverProcess);

/** Removes the block device. Its queues must go on serving until their fetches come back aborted. */
SystemError ublkStop(uint32_t deviceId);

/** Removes the char device; waits until its server has closed it. */
SystemError ublkDelete(uint32_t deviceId);
Result<ublk::DeviceInfo> ublkInfo(uint32_t deviceId);

}  // namespace corral
