// Owners of what the kernel hands out: file descriptors and mappings.

#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "result.hpp"

namespace corral {

/** Owns one file descriptor and closes it. */
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int number) : number_(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~FileDescriptor() {
    if (number_ >= 0) ::close(number_);
  }

  /** A second descriptor of the same open file; closed with its own owner. */
  static Result<FileDescriptor> duplicate(int number) {
    const int copy = ::fcntl(number, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return SystemError::last("dup");
    return FileDescriptor(copy);
  }

  int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }
  void reset() { *this = FileDescriptor(); }

 private:
  int number_ = -1;
};

/** Owns one stretch of mapped memory and unmaps it. */
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), length_(std::exchange(other.length_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(length_, other.length_);
    return *this;
  }
  ~Mapping() {
    if (address_ != nullptr) ::munmap(address_, length_);
  }

  /** A mapping of a file or device, shared with the kernel. */
  static Result<Mapping> ofFile(int number, size_t length, off_t offset, int protection) {
    return make(::mmap(nullptr, length, protection, MAP_SHARED | MAP_POPULATE, number, offset), length);
  }

  /** Fresh memory whose pages come into being when they are first touched; read-only memory reads as zeros. */
  static Result<Mapping> ofMemory(size_t length, int protection) {
    return make(::mmap(nullptr, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), length);
  }

  uint8_t* bytes() const { return static_cast<uint8_t*>(address_); }
  template <class Type>
  Type* at(size_t offset) const {
    return reinterpret_cast<Type*>(bytes() + offset);
  }
  size_t length() const { return length_; }

 private:
  static Result<Mapping> make(void* address, size_t length) {
    if (address == MAP_FAILED) return SystemError::last("mmap");
    Mapping mapping;
    mapping.address_ = address;
    mapping.length_ = length;
    return mapping;
  }

  void* address_ = nullptr;
  size_t length_ = 0;
};

}  // namespace corral
