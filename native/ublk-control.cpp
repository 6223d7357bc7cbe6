#include "ublk-control.hpp"

#include <sched.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <vector>

#include "owned.hpp"
#include "uring.hpp"

namespace corral {

namespace {

constexpr size_t COMMAND_OFFSET = 48;
constexpr uint64_t SOURCE_COMMAND = 1;
constexpr uint64_t SOURCE_TIMEOUT = 2;

/** Seconds after which a start whose queues never fetched is given up. */
constexpr int64_t START_SECONDS = 60;

/** Runs one command. `seconds` 0: waits without an end. Returns what the driver answered, or a negative errno. */
int32_t answerOf(Uring& ring, int control, uint32_t opcode, const ublk::ControlCommand& command, int64_t seconds) {
  io_uring_sqe& entry = ring.prepare();
  entry.opcode = IORING_OP_URING_CMD;
  entry.fd = control;
  entry.cmd_op = opcode;
  entry.user_data = SOURCE_COMMAND;
  std::memcpy(reinterpret_cast<uint8_t*>(&entry) + COMMAND_OFFSET, &command, sizeof command);

  __kernel_timespec limit{seconds, 0};
  if (seconds > 0) {
    entry.flags |= IOSQE_IO_LINK;
    io_uring_sqe& timeout = ring.prepare();
    timeout.opcode = IORING_OP_LINK_TIMEOUT;
    timeout.fd = -1;
    timeout.addr = reinterpret_cast<uint64_t>(&limit);
    timeout.len = 1;
    timeout.user_data = SOURCE_TIMEOUT;
  }
  while (true) {
    if (const SystemError error = ring.enter(1)) return -error.number;
    while (ring.ready() > 0) {
      const io_uring_cqe completion = ring.front();
      ring.advance();
      if (completion.user_data == SOURCE_COMMAND) return completion.res;
    }
  }
}

SystemError run(const char* name, uint32_t opcode, ublk::ControlCommand command, void* buffer = nullptr,
                uint16_t length = 0, int64_t seconds = 0) {
  FileDescriptor control(::open("/dev/ublk-control", O_RDWR | O_CLOEXEC));
  if (!control) return SystemError::last("open /dev/ublk-control");
  UringOptions options;
  options.submissionCapacity = 4;
  options.completionCapacity = 4;
  options.wideSubmissions = true;
  auto ring = Uring::create(options);
  if (!ring) return ring.error();

  command.queueId = ublk::NO_QUEUE;
  command.address = reinterpret_cast<uint64_t>(buffer);
  command.length = length;
  const int32_t answer = answerOf(*ring, control.number(), opcode, command, seconds);
  return answer < 0 ? SystemError{name, -answer} : NO_ERROR;
}

/** With the char device's path in front of the buffer: the driver asks whether the caller may open that. */
SystemError runWithPath(const char* name, uint32_t opcode, ublk::ControlCommand command, void* buffer, uint16_t length,
                        int64_t seconds = 0) {
  std::array<char, 32> path{};
  const int characters = std::snprintf(path.data(), path.size(), "/dev/ublkc%u", command.deviceId);
  const auto pathLength = static_cast<uint16_t>(characters + 1);
  std::vector<uint8_t> bytes(size_t{pathLength} + length);
  std::memcpy(bytes.data(), path.data(), pathLength);
  if (length > 0) std::memcpy(bytes.data() + pathLength, buffer, length);
  command.devicePathLength = pathLength;
  const SystemError error = run(name, opcode, command, bytes.data(), static_cast<uint16_t>(bytes.size()), seconds);
  if (!error && length > 0) std::memcpy(buffer, bytes.data() + pathLength, length);
  return error;
}

/** A command to a device that exists. */
SystemError runOn(const char* name, uint32_t opcode, const ublk::ControlCommand& command, void* buffer = nullptr,
                  uint16_t length = 0, int64_t seconds = 0) {
  Result<ublk::DeviceInfo> info = ublkInfo(command.deviceId);
  if (!info) return {name, info.error().number};
  const bool unprivileged = (info->flags & ublk::FEATURE_UNPRIVILEGED) != 0;
  return (unprivileged ? runWithPath : run)(name, opcode, command, buffer, length, seconds);
}

}  // namespace

Result<uint64_t> ublkFeatures() {
  uint64_t features = 0;
  const SystemError error =
      run("UBLK_U_CMD_GET_FEATURES", ublk::GET_FEATURES, {}, &features, ublk::FEATURES_LENGTH);
  if (error) return error;
  return features;
}

Result<ublk::DeviceInfo> ublkAdd(const UblkDeviceRequest& request) {
  ublk::DeviceInfo info{};
  info.queueCount = request.queueCount;
  info.queueDepth = request.queueDepth;
  info.maxIoBytes = request.maxIoBytes;
  info.deviceId = request.deviceId;
  info.serverProcess = -1;
  info.flags = request.flags;
  info.serverFlags = request.mark;
  ublk::ControlCommand command{};
  command.deviceId = request.deviceId;
  const SystemError error = run("UBLK_U_CMD_ADD_DEV", ublk::ADD_DEVICE, command, &info, sizeof info);
  if (error) return error;
  return info;
}

SystemError ublkSetParameters(uint32_t deviceId, const ublk::BasicParameters& parameters,
                              const UblkDiscardLimits& limits) {
  ublk::Parameters buffer{sizeof(ublk::Parameters), ublk::PARAMETER_BASIC, parameters, {}};
  if (limits.granularity != 0) {
    buffer.types |= ublk::PARAMETER_DISCARD;
    buffer.discard = {limits.granularity,
                      limits.granularity,
                      limits.maxDiscard >> ublk::SECTOR_BITS,
                      limits.maxZeroes >> ublk::SECTOR_BITS,
                      1,
                      0};
  }
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  return runOn("UBLK_U_CMD_SET_PARAMS", ublk::SET_PARAMETERS, command, &buffer, sizeof buffer);
}

Result<ublk::BasicParameters> ublkParameters(uint32_t deviceId) {
  ublk::Parameters buffer{};
  buffer.length = sizeof buffer;
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  const SystemError error = runOn("UBLK_U_CMD_GET_PARAMS", ublk::GET_PARAMETERS, command, &buffer, sizeof buffer);
  if (error) return error;
  return buffer.basic;
}

SystemError ublkPinThread(uint32_t deviceId, uint16_t queueId) {
  cpu_set_t processors;
  CPU_ZERO(&processors);
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  command.data = queueId;
  const SystemError error =
      runOn("UBLK_U_CMD_GET_QUEUE_AFFINITY", ublk::GET_QUEUE_AFFINITY, command, &processors, sizeof processors);
  if (error) return error;
  return ::sched_setaffinity(0, sizeof processors, &processors) == 0 ? NO_ERROR : SystemError::last("sched_setaffinity");
}

SystemError ublkStart(uint32_t deviceId, int32_t serverProcess) {
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  command.data = static_cast<uint64_t>(serverProcess);
  return runOn("UBLK_U_CMD_START_DEV", ublk::START_DEVICE, command, nullptr, 0, START_SECONDS);
}

SystemError ublkStartRecovery(uint32_t deviceId) {
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  return runOn("UBLK_U_CMD_START_USER_RECOVERY", ublk::START_RECOVERY, command);
}

SystemError ublkEndRecovery(uint32_t deviceId, int32_t serverProcess) {
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  command.data = static_cast<uint64_t>(serverProcess);
  return runOn("UBLK_U_CMD_END_USER_RECOVERY", ublk::END_RECOVERY, command, nullptr, 0, START_SECONDS);
}

SystemError ublkUpdateSize(uint32_t deviceId, uint64_t sectors) {
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  command.data = sectors;
  return runOn("UBLK_U_CMD_UPDATE_SIZE", ublk::UPDATE_SIZE, command);
}

SystemError ublkQuiesce(uint32_t deviceId, uint32_t milliseconds) {
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  command.data = milliseconds;
  return runOn("UBLK_U_CMD_QUIESCE_DEV", ublk::QUIESCE_DEVICE, command);
}

SystemError ublkStop(uint32_t deviceId) {
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  return runOn("UBLK_U_CMD_STOP_DEV", ublk::STOP_DEVICE, command);
}

SystemError ublkDelete(uint32_t deviceId) {
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  return runOn("UBLK_U_CMD_DEL_DEV", ublk::DELETE_DEVICE, command);
}

Result<ublk::DeviceInfo> ublkInfo(uint32_t deviceId) {
  ublk::DeviceInfo info{};
  ublk::ControlCommand command{};
  command.deviceId = deviceId;
  const SystemError error = runWithPath("UBLK_U_CMD_GET_DEV_INFO2", ublk::GET_DEVICE_INFO_2, command, &info, sizeof info);
  if (error) return error;
  return info;
}

}  // namespace corral
