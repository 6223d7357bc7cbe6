#include "uring.hpp"

#include <sched.h>
#include <sys/syscall.h>

#include <cstring>
#include <vector>

namespace corral {

namespace {

static_assert(sizeof(io_uring_sqe) == 64 && sizeof(io_uring_cqe) == 16);

int setup(uint32_t entries, io_uring_params* parameters) {
  return static_cast<int>(::syscall(__NR_io_uring_setup, entries, parameters));
}

int registerWith(int ring, uint32_t opcode, const void* argument, uint32_t count) {
  return static_cast<int>(::syscall(__NR_io_uring_register, ring, opcode, argument, count));
}

}  // namespace

Result<Uring> Uring::create(const UringOptions& options) {
  // From the best that one serving thread can have to what every kernel since 5.6 takes.
  constexpr uint32_t CHOICES[] = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
      0,
  };
  const uint32_t always = IORING_SETUP_CQSIZE | (options.wideSubmissions ? IORING_SETUP_SQE128 : 0);

  for (const uint32_t choice : CHOICES) {
    io_uring_params parameters{};
    parameters.flags = always | choice;
    parameters.cq_entries = options.completionCapacity > options.submissionCapacity ? options.completionCapacity
                                                                                    : options.submissionCapacity;
    FileDescriptor descriptor(setup(options.submissionCapacity, &parameters));
    if (!descriptor) {
      if (errno == EINVAL && choice != 0) continue;
      return SystemError::last("io_uring_setup");
    }
    Uring ring;
    ring.ring_ = std::move(descriptor);
    ring.setupFlags_ = parameters.flags;
    if (const SystemError error = ring.map(parameters)) return error;
    return ring;
  }
  return SystemError{"io_uring_setup", EINVAL};
}

Uring::Registration::~Registration() {
  if (ring_ < 0) return;
  io_uring_rsrc_update update{};
  update.offset = index_;
  registerWith(ring_, IORING_UNREGISTER_RING_FDS, &update, 1);
}

SystemError Uring::map(const io_uring_params& parameters) {
  const int number = ring_.number();
  const size_t entrySize = (parameters.flags & IORING_SETUP_SQE128) != 0 ? 128 : 64;
  entryBits_ = entrySize == 128 ? 7 : 6;

  auto submissions = Mapping::ofFile(number, parameters.sq_off.array + parameters.sq_entries * sizeof(uint32_t),
                                     IORING_OFF_SQ_RING, PROT_READ | PROT_WRITE);
  if (!submissions) return submissions.error();
  auto completions = Mapping::ofFile(number, parameters.cq_off.cqes + parameters.cq_entries * sizeof(io_uring_cqe),
                                     IORING_OFF_CQ_RING, PROT_READ | PROT_WRITE);
  if (!completions) return completions.error();
  auto entries = Mapping::ofFile(number, parameters.sq_entries * entrySize, IORING_OFF_SQES, PROT_READ | PROT_WRITE);
  if (!entries) return entries.error();
  submissionRing_ = std::move(*submissions);
  completionRing_ = std::move(*completions);
  entries_ = std::move(*entries);

  submissionHead_ = submissionRing_.at<uint32_t>(parameters.sq_off.head);
  submissionTail_ = submissionRing_.at<uint32_t>(parameters.sq_off.tail);
  submissionFlags_ = submissionRing_.at<uint32_t>(parameters.sq_off.flags);
  submissionArray_ = submissionRing_.at<uint32_t>(parameters.sq_off.array);
  completionHead_ = completionRing_.at<uint32_t>(parameters.cq_off.head);
  completionTail_ = completionRing_.at<uint32_t>(parameters.cq_off.tail);
  completions_ = completionRing_.at<io_uring_cqe>(parameters.cq_off.cqes);
  submissionCapacity_ = parameters.sq_entries;
  submissionMask_ = parameters.sq_entries - 1;
  completionMask_ = parameters.cq_entries - 1;

  // A registered ring saves the look-up of the descriptor in every enter; kernels before 5.18 refuse.
  enterNumber_ = number;
  io_uring_rsrc_update update{};
  update.offset = UINT32_MAX;
  update.data = static_cast<uint64_t>(number);
  if (registerWith(number, IORING_REGISTER_RING_FDS, &update, 1) == 1) {
    registration_ = Registration(number, update.offset);
    enterNumber_ = static_cast<int>(update.offset);
    enterFlags_ = IORING_ENTER_REGISTERED_RING;
  }
  // With deferred task work, completions appear only when they are asked for.
  if ((setupFlags_ & IORING_SETUP_DEFER_TASKRUN) != 0) enterFlags_ |= IORING_ENTER_GETEVENTS;
  probe();
  return NO_ERROR;
}

void Uring::probe() {
  std::vector<uint8_t> memory(sizeof(io_uring_probe) + 256 * sizeof(io_uring_probe_op));
  auto* answer = reinterpret_cast<io_uring_probe*>(memory.data());
  if (registerWith(ring_.number(), IORING_REGISTER_PROBE, answer, 256) < 0) return;
  for (uint32_t index = 0; index < answer->ops_len; ++index) {
    const io_uring_probe_op& operation = answer->ops[index];
    if ((operation.flags & IO_URING_OP_SUPPORTED) != 0) supported_[operation.op >> 6] |= 1ull << (operation.op & 63);
  }
}

bool Uring::supports(uint8_t opcode) const { return (supported_[opcode >> 6] >> (opcode & 63) & 1) != 0; }

bool Uring::overflowed() const {
  return (std::atomic_ref<uint32_t>(*submissionFlags_).load(std::memory_order_relaxed) & IORING_SQ_CQ_OVERFLOW) != 0;
}

io_uring_sqe& Uring::prepare() {
  if (pending() == 0) used_ = 0;
  if (used_ == submissionCapacity_ && !makeRoom()) return *nowhere_;
  auto& entry = *entries_.at<io_uring_sqe>(static_cast<size_t>(used_) << entryBits_);
  entry = io_uring_sqe{};
  if (entryBits_ == 7) *(&entry + 1) = io_uring_sqe{};  // the wide kind is as long as two
  submissionArray_[tail_ & submissionMask_] = used_;
  ++used_;
  ++tail_;
  return entry;
}

/** Hands everything to the kernel; a kernel that is short of memory is asked again until it is not. */
bool Uring::makeRoom() {
  while (pending() > 0) {
    const SystemError error = enter(0);
    if (error && error.number != EAGAIN && error.number != EBUSY) return false;
    if (error) ::sched_yield();
  }
  used_ = 0;
  return true;
}

SystemError Uring::enter(uint32_t minimum) {
  std::atomic_ref<uint32_t>(*submissionTail_).store(tail_, std::memory_order_release);
  while (true) {
    const uint32_t count = pending();
    const uint32_t flags = enterFlags_ | (minimum > 0 ? IORING_ENTER_GETEVENTS : 0);
    const long taken = ::syscall(__NR_io_uring_enter, enterNumber_, count, minimum, flags, nullptr, 0);
    if (taken < 0) {
      if (errno != EINTR) return SystemError::last("io_uring_enter");
      if (count == 0) return NO_ERROR;
      continue;
    }
    // Without SUBMIT_ALL the kernel stops at an entry that it refuses; that one is completed with its error.
    if (pending() == 0 || taken == 0) return NO_ERROR;
  }
}

SystemError Uring::registerFileTable(uint32_t count) {
  const std::vector<int32_t> numbers(count, -1);
  if (registerWith(ring_.number(), IORING_REGISTER_FILES, numbers.data(), count) == 0) return NO_ERROR;
  return SystemError::last("io_uring_register files");
}

SystemError Uring::registerFile(uint32_t index, int number) {
  int32_t value = number;
  io_uring_files_update update{};
  update.offset = index;
  update.fds = reinterpret_cast<uint64_t>(&value);
  if (registerWith(ring_.number(), IORING_REGISTER_FILES_UPDATE, &update, 1) == 1) return NO_ERROR;
  return SystemError::last("io_uring_register file");
}

SystemError Uring::registerBuffer(void* address, size_t length) {
  const struct {
    void* address;
    size_t length;
  } vector{address, length};
  if (registerWith(ring_.number(), IORING_REGISTER_BUFFERS, &vector, 1) == 0) return NO_ERROR;
  return SystemError::last("io_uring_register buffers");
}

SystemError Uring::registerBufferTable(uint32_t count) {
  io_uring_rsrc_register table{};
  table.nr = count;
  table.flags = IORING_RSRC_REGISTER_SPARSE;
  if (registerWith(ring_.number(), IORING_REGISTER_BUFFERS2, &table, sizeof table) == 0) return NO_ERROR;
  return SystemError::last("io_uring_register buffer table");
}

void Uring::unregisterBuffers() { registerWith(ring_.number(), IORING_UNREGISTER_BUFFERS, nullptr, 0); }

}  // namespace corral
