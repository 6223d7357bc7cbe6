// What the kernel's ublk driver speaks: structures and numbers, from the kernel's linux/ublk_cmd.h up to Linux 7.2.
//
// The header of Debian 12 is of 6.1 and lacks the ioctl-encoded commands; nothing here includes it.

#pragma once

#include <linux/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace corral::ublk {

/** Body of a control command, at byte 48 of a submission of 128 bytes. */
struct ControlCommand {
  uint32_t deviceId;
  /** 65535 when the command is for no queue. */
  uint16_t queueId;
  /** Bytes at `address`. */
  uint16_t length;
  uint64_t address;
  uint64_t data;
  /** The char device's path comes first at `address`, in so many bytes: of devices of unprivileged users only. */
  uint16_t devicePathLength;
  uint16_t padding;
  uint32_t reserved;
};
static_assert(sizeof(ControlCommand) == 32);
static_assert(offsetof(ControlCommand, length) == 6);
static_assert(offsetof(ControlCommand, address) == 8);
static_assert(offsetof(ControlCommand, data) == 16);
static_assert(offsetof(ControlCommand, devicePathLength) == 24);

/** A device, as wanted (ADD_DEV) and as it is (GET_DEV_INFO). */
struct DeviceInfo {
  uint16_t queueCount;
  uint16_t queueDepth;
  /** DeviceState. */
  uint16_t state;
  uint16_t padding0;
  uint32_t maxIoBytes;
  /** 2^32-1 in ADD_DEV: the driver chooses. */
  uint32_t deviceId;
  int32_t serverProcess;
  uint32_t padding1;
  /** Feature bits. */
  uint64_t flags;
  /** The server's own: the driver keeps it and gives it back. */
  uint64_t serverFlags;
  uint32_t ownerUser;
  uint32_t ownerGroup;
  uint64_t reserved1;
  uint64_t reserved2;
};
static_assert(sizeof(DeviceInfo) == 64);
static_assert(offsetof(DeviceInfo, maxIoBytes) == 8);
static_assert(offsetof(DeviceInfo, deviceId) == 12);
static_assert(offsetof(DeviceInfo, serverProcess) == 16);
static_assert(offsetof(DeviceInfo, flags) == 24);
static_assert(offsetof(DeviceInfo, ownerUser) == 40);

/** Basic parameters of the block device. Shifts are log2 of bytes, sectors are 512 bytes. */
struct BasicParameters {
  /** Attribute bits. */
  uint32_t attributes;
  uint8_t logicalBlockBits;
  uint8_t physicalBlockBits;
  uint8_t ioOptBits;
  uint8_t ioMinBits;
  uint32_t maxSectors;
  uint32_t chunkSectors;
  uint64_t deviceSectors;
  uint64_t virtBoundaryMask;
};
static_assert(sizeof(BasicParameters) == 32);
static_assert(offsetof(BasicParameters, maxSectors) == 8);
static_assert(offsetof(BasicParameters, deviceSectors) == 16);

/** What the device offers of DISCARD and WRITE_ZEROES. */
struct DiscardParameters {
  /** Bytes. */
  uint32_t alignment;
  uint32_t granularity;
  uint32_t maxDiscardSectors;
  uint32_t maxZeroesSectors;
  /** The driver takes 1 only. */
  uint16_t maxSegments;
  uint16_t reserved;
};
static_assert(sizeof(DiscardParameters) == 20);
static_assert(offsetof(DiscardParameters, maxSegments) == 16);

/** Parameters of SET_PARAMS; the driver accepts any prefix whose `length` says so. */
struct Parameters {
  uint32_t length;
  /** PARAMETER_ bits of what is filled in. */
  uint32_t types;
  BasicParameters basic;
  DiscardParameters discard;
};
static_assert(sizeof(Parameters) == 64);
static_assert(offsetof(Parameters, discard) == 40);
static_assert(offsetof(Parameters, basic) == 8);

/** One request of the kernel, in memory that the driver writes and the server maps read-only. */
struct RequestDescriptor {
  /** Bits 0-7 the operation, 8-31 flags. */
  uint32_t operationAndFlags;
  uint32_t sectorCount;
  uint64_t startSector;
  uint64_t address;
};
static_assert(sizeof(RequestDescriptor) == 24);
static_assert(offsetof(RequestDescriptor, startSector) == 8);
static_assert(offsetof(RequestDescriptor, address) == 16);

/** Body of FETCH_REQ and COMMIT_AND_FETCH_REQ, at byte 48 of a submission of 64 bytes. */
struct QueueCommand {
  uint16_t queueId;
  uint16_t tag;
  /** Commit: bytes moved or a negative errno. */
  int32_t result;
  /** The tag's buffer. */
  uint64_t address;
};
static_assert(sizeof(QueueCommand) == 16);
static_assert(offsetof(QueueCommand, result) == 4);
static_assert(offsetof(QueueCommand, address) == 8);

// Control commands.
inline constexpr uint32_t GET_QUEUE_AFFINITY = _IOR('u', 0x01, ControlCommand);
inline constexpr uint32_t ADD_DEVICE = _IOWR('u', 0x04, ControlCommand);
inline constexpr uint32_t DELETE_DEVICE = _IOWR('u', 0x05, ControlCommand);
inline constexpr uint32_t START_DEVICE = _IOWR('u', 0x06, ControlCommand);
inline constexpr uint32_t STOP_DEVICE = _IOWR('u', 0x07, ControlCommand);
inline constexpr uint32_t SET_PARAMETERS = _IOWR('u', 0x08, ControlCommand);
inline constexpr uint32_t GET_PARAMETERS = _IOR('u', 0x09, ControlCommand);
inline constexpr uint32_t START_RECOVERY = _IOWR('u', 0x10, ControlCommand);
inline constexpr uint32_t END_RECOVERY = _IOWR('u', 0x11, ControlCommand);
inline constexpr uint32_t UPDATE_SIZE = _IOWR('u', 0x15, ControlCommand);
inline constexpr uint32_t QUIESCE_DEVICE = _IOWR('u', 0x16, ControlCommand);
/** As GET_DEV_INFO, with the char device's path: owners of unprivileged devices may ask, too. Since Linux 6.3. */
inline constexpr uint32_t GET_DEVICE_INFO_2 = _IOR('u', 0x12, ControlCommand);
inline constexpr uint32_t GET_FEATURES = _IOR('u', 0x13, ControlCommand);
static_assert(GET_FEATURES == 0x80207513 && ADD_DEVICE == 0xc0207504);

// Queue commands.
inline constexpr uint32_t FETCH_REQUEST = _IOWR('u', 0x20, QueueCommand);
inline constexpr uint32_t COMMIT_AND_FETCH_REQUEST = _IOWR('u', 0x21, QueueCommand);
/** With SUPPORT_ZERO_COPY: put a request's pages into the ring's table of buffers, at the index in `address`; take them out. */
inline constexpr uint32_t REGISTER_BUFFER = _IOWR('u', 0x23, QueueCommand);
inline constexpr uint32_t UNREGISTER_BUFFER = _IOWR('u', 0x24, QueueCommand);
static_assert(FETCH_REQUEST == 0xc0107520);

/** Bytes of the answer to GET_FEATURES. */
inline constexpr uint16_t FEATURES_LENGTH = 8;
/** The command is for no queue. */
inline constexpr uint16_t NO_QUEUE = 0xffff;
/** ADD_DEV: the driver chooses the id. */
inline constexpr uint32_t ANY_DEVICE = 0xffffffff;
inline constexpr uint32_t MAX_QUEUE_DEPTH = 4096;
/** A single buffer is at most 32 MiB. */
inline constexpr uint32_t MAX_IO_BYTES = 32u << 20;
/** Result of a fetch that brings no request and will bring none. */
inline constexpr int32_t RESULT_ABORT = -19;  // -ENODEV

// Feature bits (ADD_DEV, GET_FEATURES).
inline constexpr uint64_t FEATURE_UNPRIVILEGED = 1u << 5;
inline constexpr uint64_t FEATURE_IOCTL_ENCODE = 1u << 6;

// Parameter types.
inline constexpr uint32_t PARAMETER_BASIC = 1u << 0;
inline constexpr uint32_t PARAMETER_DISCARD = 1u << 1;

/** Bytes of the longest DISCARD or WRITE_ZEROES that a device offers: they move no data. */
inline constexpr uint32_t MAX_ZEROES_BYTES = 1u << 30;

// Attributes.
inline constexpr uint32_t ATTRIBUTE_READ_ONLY = 1u << 0;
inline constexpr uint32_t ATTRIBUTE_ROTATIONAL = 1u << 1;
inline constexpr uint32_t ATTRIBUTE_VOLATILE_CACHE = 1u << 2;
inline constexpr uint32_t ATTRIBUTE_FUA = 1u << 3;

// Operations of a request.
inline constexpr uint32_t OPERATION_MASK = 0xff;
inline constexpr uint32_t OPERATION_READ = 0;
inline constexpr uint32_t OPERATION_WRITE = 1;
inline constexpr uint32_t OPERATION_FLUSH = 2;
inline constexpr uint32_t OPERATION_DISCARD = 3;
inline constexpr uint32_t OPERATION_WRITE_SAME = 4;
inline constexpr uint32_t OPERATION_WRITE_ZEROES = 5;

// Flags of a request.
inline constexpr uint32_t FLAG_FUA = 1u << 13;
inline constexpr uint32_t FLAG_NO_UNMAP = 1u << 15;

/** AUTO_BUF_REG: the driver could not register the request's buffer. */
inline constexpr uint32_t FLAG_NEEDS_BUFFER = 1u << 17;

/** AUTO_BUF_REG: the upper bits of a submission's address, whose lower 16 are the index: deliver requests without a buffer, too. */
inline constexpr uint64_t AUTO_BUFFER_FALLBACK = 1u << 16;

/** USER_COPY: where in the char device the bytes of a request are; see `copyPosition`. */
inline constexpr uint64_t COPY_POSITION = 0x8000'0000;
inline constexpr uint32_t COPY_TAG_BITS = 25;
inline constexpr uint32_t COPY_QUEUE_BITS = 41;

/** Position in the char device of byte `offset` of the request that queue and tag name. */
inline constexpr uint64_t copyPosition(uint16_t queueId, uint32_t tag, uint32_t offset) {
  return COPY_POSITION +
         ((uint64_t{queueId} << COPY_QUEUE_BITS) | (uint64_t{tag} << COPY_TAG_BITS) | uint64_t{offset});
}

inline constexpr uint32_t SECTOR_BITS = 9;

}  // namespace corral::ublk
