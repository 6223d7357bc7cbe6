// Errors as values: what the kernel refused, and either-or results.

#pragma once

#include <cerrno>
#include <utility>
#include <variant>

namespace corral {

/** A kernel call that failed. `number` is a positive errno; 0 means that nothing failed. */
struct SystemError {
  /** What was tried, as in `io_uring_setup`; a string literal. */
  const char* operation = "";
  int number = 0;

  explicit operator bool() const { return number != 0; }

  /** The error of the call that just failed, from `errno`. */
  static SystemError last(const char* operation) { return {operation, errno}; }
};

/** No error. */
inline constexpr SystemError NO_ERROR{};

/** A value, or why there is none. */
template <class Value>
class Result {
 public:
  Result(Value value) : content_(std::move(value)) {}
  Result(SystemError error) : content_(error) {}

  explicit operator bool() const { return std::holds_alternative<Value>(content_); }
  Value& operator*() { return std::get<Value>(content_); }
  Value* operator->() { return &std::get<Value>(content_); }
  const SystemError& error() const { return std::get<SystemError>(content_); }

 private:
  std::variant<Value, SystemError> content_;
};

}  // namespace corral
