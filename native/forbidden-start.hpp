// What a file must not begin with: the host says which bytes, and where.

#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace corral {

/** Signatures that are kept out of a file's first sector. Which of them mean what is the host's knowledge. */
class ForbiddenStart {
 public:
  /** Bytes of the file that are watched. */
  static constexpr uint64_t LENGTH = 512;

  ForbiddenStart() = default;
  /** @param packed one behind the other: where it begins, its length (a byte each) and its bytes */
  explicit ForbiddenStart(std::span<const uint8_t> packed) : packed_(packed.begin(), packed.end()) {}

  /** True when every signature lies in the watched bytes. */
  bool sound() const {
    for (size_t at = 0; at < packed_.size(); at += 2 + length(at)) {
      if (at + 2 > packed_.size() || at + 2 + length(at) > packed_.size() || length(at) == 0) return false;
      if (packed_[at] + size_t{length(at)} > LENGTH) return false;
    }
    return true;
  }

  bool empty() const { return packed_.empty(); }

  /** Whether these LENGTH bytes have one of the signatures. Only of a sound one. */
  bool matches(const uint8_t* start) const {
    for (size_t at = 0; at < packed_.size(); at += 2 + length(at)) {
      if (std::memcmp(start + packed_[at], packed_.data() + at + 2, length(at)) == 0) return true;
    }
    return false;
  }

 private:
  uint8_t length(size_t at) const { return at + 1 < packed_.size() ? packed_[at + 1] : 0; }

  std::vector<uint8_t> packed_;
};

}  // namespace corral
