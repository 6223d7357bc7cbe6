// JavaScript's view of byte locks: `shareLock`, `releaseLock`, `isLockedByOthers`.

#include "binding.hpp"
#include "byte-locks.hpp"

namespace corral {

namespace {

struct Range {
  int number;
  int64_t offset;
  int64_t length;
};

/** The arguments (descriptor, offset, length); throws and says false when they are not numbers. */
bool readRange(const Napi::CallbackInfo& info, Range& range) {
  if (!info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsNumber()) {
    Napi::TypeError::New(info.Env(), "descriptor, offset and length must be numbers").ThrowAsJavaScriptException();
    return false;
  }
  range.number = info[0].As<Napi::Number>().Int32Value();
  range.offset = info[1].As<Napi::Number>().Int64Value();
  range.length = info[2].As<Napi::Number>().Int64Value();
  return true;
}

Napi::Value share(const Napi::CallbackInfo& info) {
  Range range;
  if (readRange(info, range)) throwIf(info.Env(), byteLocks::share(range.number, range.offset, range.length));
  return info.Env().Undefined();
}

Napi::Value release(const Napi::CallbackInfo& info) {
  Range range;
  if (readRange(info, range)) throwIf(info.Env(), byteLocks::release(range.number, range.offset, range.length));
  return info.Env().Undefined();
}

Napi::Value heldByOthers(const Napi::CallbackInfo& info) {
  Range range;
  if (!readRange(info, range)) return info.Env().Undefined();
  auto held = byteLocks::heldByOthers(range.number, range.offset, range.length);
  if (!held) {
    throwIf(info.Env(), held.error());
    return info.Env().Undefined();
  }
  return Napi::Boolean::New(info.Env(), *held);
}

}  // namespace

void exportByteLocks(Napi::Env env, Napi::Object exports) {
  exports.Set("shareLock", Napi::Function::New(env, share, "shareLock"));
  exports.Set("releaseLock", Napi::Function::New(env, release, "releaseLock"));
  exports.Set("isLockedByOthers", Napi::Function::New(env, heldByOthers, "isLockedByOthers"));
}

}  // namespace corral
