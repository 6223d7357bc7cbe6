#include "binding.hpp"

#include <cstring>

#include "abi.hpp"

namespace corral {

Napi::Error toError(Napi::Env env, const SystemError& error) {
  const std::string message = std::string(error.operation) + ": " + ::strerror(error.number);
  Napi::Error result = Napi::Error::New(env, message);
  Napi::Object object = result.Value();
  object.Set("operation", error.operation);
  object.Set("errno", error.number);
  const char* name = ::strerrorname_np(error.number);
  object.Set("code", name != nullptr ? name : "EUNKNOWN");
  return result;
}

bool tell(napi_env env, const Napi::FunctionReference& callback, napi_value value) {
  napi_value receiver = nullptr;
  return napi_get_undefined(env, &receiver) == napi_ok &&
         napi_call_function(env, receiver, callback.Value(), 1, &value, nullptr) == napi_ok;
}

Options::Options(const Napi::Value& value) : env_(value.Env()) {
  if (value.IsObject()) {
    object_ = value.As<Napi::Object>();
  } else {
    object_ = Napi::Object::New(env_);
    problem_ = "an options object is needed";
  }
}

Napi::Value Options::get(const char* name) { return object_.Get(name); }

void Options::refuse(const char* name, const char* wanted) {
  if (problem_.empty()) problem_ = std::string(name) + " must be " + wanted;
}

uint64_t Options::number(const char* name, uint64_t maximum) {
  const Napi::Value value = get(name);
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= static_cast<double>(maximum)) || number > 9007199254740991.0 ||
      number != static_cast<double>(static_cast<uint64_t>(number))) {
    refuse(name, "a whole number in its range");
    return 0;
  }
  return static_cast<uint64_t>(number);
}

uint64_t Options::numberOr(const char* name, uint64_t maximum, uint64_t fallback) {
  return get(name).IsUndefined() ? fallback : number(name, maximum);
}

bool Options::flagOr(const char* name, bool fallback) {
  const Napi::Value value = get(name);
  if (value.IsUndefined()) return fallback;
  if (!value.IsBoolean()) refuse(name, "true or false");
  return value.IsBoolean() && value.As<Napi::Boolean>().Value();
}

Napi::ArrayBuffer Options::buffer(const char* name) {
  const Napi::Value value = get(name);
  if (value.IsArrayBuffer()) return value.As<Napi::ArrayBuffer>();
  refuse(name, "an ArrayBuffer");
  return {};
}

MemoryView Options::memory(const char* name) {
  const Napi::Value value = get(name);
  if (value.IsArrayBuffer()) {
    auto buffer = value.As<Napi::ArrayBuffer>();
    return {buffer, static_cast<uint8_t*>(buffer.Data()), buffer.ByteLength()};
  }
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    auto bytes = value.As<Napi::Uint8Array>();
    return {bytes, bytes.Data(), bytes.ByteLength()};
  }
  refuse(name, "an ArrayBuffer or a Uint8Array");
  return {};
}

Napi::Int32Array Options::numbers(const char* name) {
  const Napi::Value value = get(name);
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_int32_array) {
    return value.As<Napi::Int32Array>();
  }
  refuse(name, "an Int32Array");
  return {};
}

bool Options::refused() {
  if (problem_.empty()) return env_.IsExceptionPending();
  Napi::TypeError::New(env_, problem_).ThrowAsJavaScriptException();
  return true;
}

namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("abiHash", abi::ABI_HASH);
  exportRing(env, exports);
  exportUblkControl(env, exports);
  exportByteLocks(env, exports);
  exportSpace(env, exports);
  exportCachedRead(env, exports);
  exportGatheredWrite(env, exports);
  exportProbe(env, exports);
  exportTransfer(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(corral, initialize)

}  // namespace corral
