// JavaScript's view of a file's space: `punchHole`, `zeroRange` (fallocate(2)), `findExtent` (lseek(2)). They take as long as the file system
// does, on the calling thread: the host asks for a piece at a time.

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "binding.hpp"

namespace corral {

namespace {

Napi::Value allocate(const Napi::CallbackInfo& info, int mode, const char* operation) {
  if (!info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsNumber()) {
    Napi::TypeError::New(info.Env(), "descriptor, offset and length must be numbers").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const int number = info[0].As<Napi::Number>().Int32Value();
  const int64_t offset = info[1].As<Napi::Number>().Int64Value();
  const int64_t length = info[2].As<Napi::Number>().Int64Value();
  int answer = 0;
  do {
    answer = ::fallocate(number, mode, offset, length);
  } while (answer != 0 && errno == EINTR);
  if (answer != 0) throwIf(info.Env(), SystemError::last(operation));
  return info.Env().Undefined();
}

Napi::Value punchHole(const Napi::CallbackInfo& info) {
  return allocate(info, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch hole");
}

Napi::Value zeroRange(const Napi::CallbackInfo& info) { return allocate(info, FALLOC_FL_ZERO_RANGE, "zero range"); }

/**
 * Where the stretch of data, or the hole, ends that `offset` is in: the end of a hole is positive, that of data negative;
 * 0 when the file ends before. Moves the position of the open file, which nobody here uses.
 */
Napi::Value findExtent(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber() || !info[1].IsNumber()) {
    Napi::TypeError::New(info.Env(), "descriptor and offset must be numbers").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const int number = info[0].As<Napi::Number>().Int32Value();
  const int64_t offset = info[1].As<Napi::Number>().Int64Value();
  const off_t data = ::lseek(number, offset, SEEK_DATA);
  off_t end = data;
  if (data < 0 && errno == ENXIO) {
    // No data from here on: what is left of the file, if anything is, is a hole.
    end = ::lseek(number, 0, SEEK_END);
    if (end >= 0 && end <= offset) end = 0;
  } else if (data == offset) {
    end = ::lseek(number, offset, SEEK_HOLE);
  }
  if (end < 0 && throwIf(info.Env(), SystemError::last("seek"))) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(data == offset ? -end : end));
}

}  // namespace

void exportSpace(Napi::Env env, Napi::Object exports) {
  exports.Set("punchHole", Napi::Function::New(env, punchHole, "punchHole"));
  exports.Set("findExtent", Napi::Function::New(env, findExtent, "findExtent"));
  exports.Set("zeroRange", Napi::Function::New(env, zeroRange, "zeroRange"));
}

}  // namespace corral
