// What the launcher takes away from itself before it becomes another program. Each function names what failed.

#pragma once

#include <cstdint>
#include <string>

#include "../result.hpp"

namespace corral::launcher {

/** What may be used; the kernel ends or refuses what asks for more. */
struct Limits {
  /** Seconds of processor time. */
  std::uint64_t cpuSeconds = 60;
  /** Bytes of private memory. */
  std::uint64_t dataBytes = std::uint64_t{2} << 30;
};

/** No core dumps, no files that grow, few descriptors, bounded time and memory. */
SystemError limitResources(const Limits& limits);

/** No privileges, now and after `exec`; the end of the parent ends this process, too. */
SystemError dropPrivileges();

/**
 * Landlock: `program` and its interpreter can be executed, what they are linked with be read, and nothing else on any file
 * system be opened; no TCP where the kernel knows of it. Open descriptors stay usable.
 */
SystemError restrictFiles(const std::string& program);

/** seccomp: no sockets, processes, signals to others, mounts, or changes of files. `program` is the one path to execute. */
SystemError filterCalls(const char* program);

}  // namespace corral::launcher
