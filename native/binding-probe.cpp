// JavaScript's view of what this kernel's io_uring can do: `probeRing` makes a ring, asks, and gives it back. And
// `becomeFlusher`, what the kernel shall know of a thread that serves a block device.

#include <sys/prctl.h>

#include "binding.hpp"
#include "uring.hpp"

namespace corral {

namespace {

/** Opcodes are bytes; the kernel has come to some sixty of them. */
constexpr uint32_t OPCODES = 256;

Napi::Value probeRing(const Napi::CallbackInfo& info) {
  UringOptions options;
  options.submissionCapacity = 4;
  options.completionCapacity = 4;
  options.wideSubmissions = info[0].IsBoolean() && info[0].As<Napi::Boolean>().Value();
  auto ring = Uring::create(options);
  if (!ring) {
    throwIf(info.Env(), ring.error());
    return info.Env().Undefined();
  }
  Napi::Array opcodes = Napi::Array::New(info.Env());
  for (uint32_t opcode = 0; opcode < OPCODES; ++opcode) {
    if (ring->supports(static_cast<uint8_t>(opcode))) opcodes.Set(opcodes.Length(), opcode);
  }
  Napi::Object abilities = Napi::Object::New(info.Env());
  abilities.Set("setupFlags", ring->setupFlags());
  abilities.Set("opcodes", opcodes);
  return abilities;
}

// prctl(2), PR_SET_IO_FLUSHER: of the calling thread, which needs CAP_SYS_RESOURCE.
Napi::Value becomeFlusher(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0);
}

}  // namespace

void exportProbe(Napi::Env env, Napi::Object exports) {
  exports.Set("becomeFlusher", Napi::Function::New(env, becomeFlusher, "becomeFlusher"));
  exports.Set("probeRing", Napi::Function::New(env, probeRing, "probeRing"));
}

}  // namespace corral
