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
  const bool bytesGiven =
      info[2].IsTypedArray() && info[2].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
  if (!info[0].IsNumber() || !info[1].IsNumber() || !bytesGiven) {
    Napi::TypeError::New(info.Env(), "descriptor and offset must be numbers, the target bytes")
        .ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const int number = info[0].As<Napi::Number>().Int32Value();
  const int64_t offset = info[1].As<Napi::Number>().Int64Value();
  // Its ArrayBuffer may be a shared one, which only the array itself can be asked about.
  auto target = info[2].As<Napi::Uint8Array>();
  const iovec place{target.Data(), target.ByteLength()};
  const ssize_t count = ::preadv2(number, &place, 1, offset, RWF_NOWAIT);
  return Napi::Number::New(info.Env(), count < 0 ? -errno : static_cast<double>(count));
}

}  // namespace

void exportCachedRead(Napi::Env env, Napi::Object exports) {
  exports.Set("readCached", Napi::Function::New(env, readCached, "readCached"));
}

}  // namespace corral
