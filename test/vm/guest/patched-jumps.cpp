// Patches jumps while another thread runs them, as compilers of WebAssembly do when a function got better code: the displacement
// by one store that stays within a cache line, which a processor sees as a whole or not at all. Counts the jumps that went
// anywhere but to the old place or the new one. The page is full of jumps: then an emulator has most to do for a store into it.
//
// usage: patched-jumps SECONDS
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

namespace {

constexpr int LINES = 64;
constexpr int SLOTS_A_LINE = 12;
constexpr int SLOTS = LINES * SLOTS_A_LINE;
constexpr int SLOT_LENGTH = 5;
constexpr size_t CODE_LENGTH = 4 << 20;
constexpr int TABLE = 0x5000;
// Their displacements differ in three bytes, and each mixture of them leads into the code as well.
constexpr int OLD_PLACE = 0x10a0c0;
constexpr int NEW_PLACE = 0x21bdc0;
constexpr int DISTANCE = 8192;

enum Answer : uint8_t { OLD = 1, NEW = 2, NEITHER = 3 };

int slotOffset(int slot) { return TABLE + slot / SLOTS_A_LINE * 64 + slot % SLOTS_A_LINE * SLOT_LENGTH; }
int32_t displacement(int slot, int place) { return place - (slotOffset(slot) + SLOT_LENGTH); }

/** mov eax, answer; ret */
void putFunction(uint8_t* place, Answer answer) {
  const std::array<uint8_t, 6> body{0xb8, answer, 0, 0, 0, 0xc3};
  std::memcpy(place, body.data(), body.size());
}

}  // namespace

int main(int, char** arguments) {
  void* memory = mmap(nullptr, CODE_LENGTH, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 2;
  auto* code = static_cast<uint8_t*>(memory);
  // Whoever lands between functions slides to the next one.
  std::memset(code, 0x90, CODE_LENGTH);
  for (size_t end = DISTANCE; end <= CODE_LENGTH; end += DISTANCE) putFunction(code + end - 8, NEITHER);
  putFunction(code + OLD_PLACE, OLD);
  putFunction(code + NEW_PLACE, NEW);
  std::memset(code + TABLE, 0xcc, LINES * 64);
  for (int slot = 0; slot < SLOTS; ++slot) {
    code[slotOffset(slot)] = 0xe9;  // jmp
    const int32_t first = displacement(slot, OLD_PLACE);
    std::memcpy(code + slotOffset(slot) + 1, &first, sizeof first);
  }

  std::atomic<bool> over = false;
  long patches = 0;
  std::thread patcher([&] {
    std::minstd_rand random(1);
    while (!over) {
      const int slot = static_cast<int>(random() % SLOTS);
      const int32_t next = displacement(slot, random() % 2 == 0 ? OLD_PLACE : NEW_PLACE);
      auto* target = reinterpret_cast<int32_t*>(code + slotOffset(slot) + 1);
      __atomic_store_n(target, next, __ATOMIC_RELAXED);
      ++patches;
      // The others get a look at what it is between two patches.
      for (int pause = 0; pause < 2000; ++pause) std::atomic_signal_fence(std::memory_order_seq_cst);
    }
  });
  std::array<long, 4> counts{};
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(arguments[1]));
  while (std::chrono::steady_clock::now() < end) {
    for (int slot = 0; slot < SLOTS; ++slot) ++counts[reinterpret_cast<int (*)()>(code + slotOffset(slot))() & 3];
  }
  over = true;
  patcher.join();
  std::printf("%ld patches; %ld jumps to the old place, %ld to the new one, %ld to neither\n", patches, counts[OLD],
              counts[NEW], counts[NEITHER]);
}
