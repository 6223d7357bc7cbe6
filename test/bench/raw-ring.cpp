// The limit that an engine on io_uring can reach: scattered reads of a file through the addon's own ring class, with
// nothing in between.
//
//   raw-ring FILE BLOCKS DEPTH COUNT      prints {"iops":…,"cpuMicroseconds":…,"count":…}
//
// Reads the file's first BLOCKS blocks of 4 KiB in an order that visits each of them, and keeps DEPTH of them in flight.
// The order is that of the other programs on as many blocks: how far apart neighbours are decides what a copy costs.
// Built by ring-read.mjs from this file and native/uring.cpp.

#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "uring.hpp"

namespace {

constexpr uint64_t BLOCK = 4096;

double cpuMicroseconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) { return time.tv_sec * 1e6 + static_cast<double>(time.tv_usec); };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

int fail(const corral::SystemError& error) {
  std::fprintf(stderr, "raw-ring: %s: %s\n", error.operation, std::strerror(error.number));
  return 1;
}

/** Multiples of this visit every block before any one twice, and no two neighbours are near each other. */
uint64_t scatteringStep(uint64_t blockCount) {
  uint64_t step = blockCount * 61803 / 100000 | 1;
  while (std::gcd(step, blockCount) != 1) step += 2;
  return step;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return fail({"usage: raw-ring FILE BLOCKS DEPTH COUNT", EINVAL});
  const uint64_t blockCount = std::strtoull(argv[2], nullptr, 10);
  const auto depth = static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10));
  const uint64_t count = std::strtoull(argv[4], nullptr, 10);
  const corral::FileDescriptor file(::open(argv[1], O_RDONLY | O_CLOEXEC));
  if (!file) return fail(corral::SystemError::last("open"));
  struct stat status {};
  ::fstat(file.number(), &status);
  const bool fits = blockCount != 0 && blockCount <= static_cast<uint64_t>(status.st_size) / BLOCK;
  if (depth == 0 || depth > 4096 || !fits) return fail({"arguments", EINVAL});
  const uint64_t step = scatteringStep(blockCount);

  corral::UringOptions options;
  options.submissionCapacity = depth;
  options.completionCapacity = depth * 2;
  auto ring = corral::Uring::create(options);
  if (!ring) return fail(ring.error());
  auto memory = corral::Mapping::ofMemory(depth * BLOCK, PROT_READ | PROT_WRITE);
  if (!memory) return fail(memory.error());
  if (const auto error = ring->registerFileTable(1)) return fail(error);
  if (const auto error = ring->registerFile(0, file.number())) return fail(error);
  const bool fixed = !ring->registerBuffer(memory->bytes(), memory->length());

  uint64_t block = 0;
  uint64_t started = 0;
  const auto start = [&](uint32_t slot) {
    io_uring_sqe& entry = ring->prepare();
    entry.opcode = fixed ? IORING_OP_READ_FIXED : IORING_OP_READ;
    entry.flags = IOSQE_FIXED_FILE;
    entry.off = block * BLOCK;
    entry.addr = reinterpret_cast<uint64_t>(memory->bytes() + slot * BLOCK);
    entry.len = BLOCK;
    entry.user_data = slot;
    block += step;
    if (block >= blockCount) block -= blockCount;
    ++started;
  };

  const double cpuBefore = cpuMicroseconds();
  const auto before = std::chrono::steady_clock::now();
  for (uint32_t slot = 0; slot < depth && started < count; ++slot) start(slot);
  for (uint64_t done = 0; done < count;) {
    if (const auto error = ring->enter(1)) return fail(error);
    while (ring->ready() > 0) {
      const io_uring_cqe& completion = ring->front();
      const auto slot = static_cast<uint32_t>(completion.user_data);
      const int32_t result = completion.res;
      ring->advance();
      if (result != static_cast<int32_t>(BLOCK)) return fail({"read", result < 0 ? -result : EIO});
      ++done;
      if (started < count) start(slot);
    }
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - before;
  std::printf("{\"iops\":%.0f,\"cpuMicroseconds\":%.4f,\"count\":%llu}\n", static_cast<double>(count) / seconds.count(),
              (cpuMicroseconds() - cpuBefore) / static_cast<double>(count), static_cast<unsigned long long>(count));
  return 0;
}
