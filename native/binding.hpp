// What the bindings share: reading option objects and turning SystemErrors into JavaScript errors.

#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

#include "result.hpp"

namespace corral {

/** An Error with `operation`, `errno` (positive) and `code` as in `ENOENT`. */
Napi::Error toError(Napi::Env env, const SystemError& error);

/** Throws into JavaScript; the caller returns at once. True when there was an error. */
inline bool throwIf(Napi::Env env, const SystemError& error) {
  if (!error) return false;
  toError(env, error).ThrowAsJavaScriptException();
  return true;
}

/**
 * Calls a callback with one value. False when JavaScript could not be called, since its environment ends and no exception
 * could be thrown into it, or when the callback has thrown.
 */
bool tell(napi_env env, const Napi::FunctionReference& callback, napi_value value);

/** Memory of JavaScript's, which stays as long as `object`. */
struct MemoryView {
  Napi::Object object;
  uint8_t* data = nullptr;
  size_t length = 0;
};

/**
 * Reads the properties of an options object. The first one that is missing or wrong is remembered; `refused` throws it
 * as a TypeError.
 */
class Options {
 public:
  explicit Options(const Napi::Value& value);

  /** A whole number from 0 to `maximum`. */
  uint64_t number(const char* name, uint64_t maximum);
  uint64_t numberOr(const char* name, uint64_t maximum, uint64_t fallback);
  bool flagOr(const char* name, bool fallback);
  Napi::ArrayBuffer buffer(const char* name);
  /** An ArrayBuffer, or a Uint8Array of shared memory. */
  MemoryView memory(const char* name);
  /** The same, or nothing. */
  MemoryView memoryOr(const char* name) { return get(name).IsUndefined() ? MemoryView{} : memory(name); }
  Napi::Int32Array numbers(const char* name);

  /** Throws when something was wrong; the caller returns at once. */
  bool refused();

 private:
  Napi::Value get(const char* name);
  void refuse(const char* name, const char* wanted);

  Napi::Env env_;
  Napi::Object object_;
  std::string problem_;
};

// Parts of the addon; each puts its names into the exports.
void exportRing(Napi::Env env, Napi::Object exports);
void exportUblkControl(Napi::Env env, Napi::Object exports);
void exportByteLocks(Napi::Env env, Napi::Object exports);
void exportSpace(Napi::Env env, Napi::Object exports);
void exportCachedRead(Napi::Env env, Napi::Object exports);
void exportGatheredWrite(Napi::Env env, Napi::Object exports);
void exportProbe(Napi::Env env, Napi::Object exports);
void exportTransfer(Napi::Env env, Napi::Object exports);

}  // namespace corral
