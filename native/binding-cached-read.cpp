// JavaScript's view of reads that need not wait: `readCached`, which takes what the page cache has and starts no I/O.

#include <sys/uio.h>

#include "binding.hpp"

namespace corral {

namespace {

/**
 * Reads as much as is there at once (preadv2(2), RWF_NOWAIT). Answers the number of bytes, 0 at the end of the file, or a
 * negative errno: -EAGAIN when the first byte would have to be waited for, -EOPNOTSUPP where the file system cannot tell.
 */
Napi::Value readCached(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsTypedArray()) {
    Napi::TypeError::New(info.Env(), "descriptor and offset must be numbers, the target bytes")
        .ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const int number = info[0].As<Napi::Number>().Int32Value();
  const int64_t offset = info[1].As<Napi::Number>().Int64Value();
  const Napi::TypedArray target = info[2].As<Napi::TypedArray>();
  uint8_t* bytes = static_cast<uint8_t*>(target.ArrayBuffer().Data()) + target.ByteOffset();
  const iovec place{bytes, target.ByteLength()};
  const ssize_t count = ::preadv2(number, &place, 1, offset, RWF_NOWAIT);
  return Napi::Number::New(info.Env(), count < 0 ? -errno : static_cast<double>(count));
}

}  // namespace

void exportCachedRead(Napi::Env env, Napi::Object exports) {
  exports.Set("readCached", Napi::Function::New(env, readCached, "readCached"));
}

}  // namespace corral
