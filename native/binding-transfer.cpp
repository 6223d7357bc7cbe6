// JavaScript's view of work with bytes that takes a while: `copyRange`, `decompressCluster`, `compressCluster`. Each is done
// on one of libuv's threads, so that several go on at once; `findData` is done at once, as fast as memory is.
//
// Every number is checked here. Buffers belong to the work until its callback is called: the host leaves them alone.

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "binding.hpp"
#include "cluster-codec.hpp"
#include "file-copy.hpp"

namespace corral {

namespace {

/** Largest cluster, and room for its compressed form. */
constexpr uint32_t MAXIMUM_CLUSTER = 2 << 20;
/** Largest compressed data: what an L2 entry can say. */
constexpr uint32_t MAXIMUM_COMPRESSED = 2 * MAXIMUM_CLUSTER;
constexpr int64_t MAXIMUM_SAFE = (int64_t{1} << 53) - 1;
/** What a callback is called with when compressed data are damaged; no errno is that large. */
constexpr int32_t DAMAGED = -65536;

/** Reads arguments one by one; `refused` throws a TypeError when one of them was wrong. */
class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  int64_t number(int64_t maximum) {
    const Napi::Value value = info_[next_++];
    const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (number >= 0 && number <= static_cast<double>(maximum) &&
        number == static_cast<double>(static_cast<int64_t>(number))) {
      return static_cast<int64_t>(number);
    }
    wrong_ = true;
    return 0;
  }

  std::span<uint8_t> bytes(Napi::Value& value) {
    value = info_[next_++];
    if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
      auto array = value.As<Napi::Uint8Array>();
      return {array.Data(), array.ByteLength()};
    }
    wrong_ = true;
    return {};
  }

  Napi::Int32Array numbers() {
    const Napi::Value value = info_[next_++];
    if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_int32_array) {
      return value.As<Napi::Int32Array>();
    }
    wrong_ = true;
    return {};
  }

  bool flag() {
    const Napi::Value value = info_[next_++];
    if (!value.IsBoolean()) wrong_ = true;
    return value.IsBoolean() && value.As<Napi::Boolean>().Value();
  }

  Napi::Function callback() {
    const Napi::Value value = info_[next_++];
    if (value.IsFunction()) return value.As<Napi::Function>();
    wrong_ = true;
    return {};
  }

  CompressionType compression() { return number(1) == 1 ? CompressionType::Zstd : CompressionType::Zlib; }
  void refuse() { wrong_ = true; }

  bool refused() {
    if (wrong_) Napi::TypeError::New(info_.Env(), "arguments out of their range").ThrowAsJavaScriptException();
    return wrong_;
  }

 private:
  const Napi::CallbackInfo& info_;
  size_t next_ = 0;
  bool wrong_ = false;
};

/** Work on a thread. The callback gets a number: 0 or more for what was done, a negative errno, or DAMAGED. */
class Transfer : public Napi::AsyncWorker {
 public:
  explicit Transfer(const Napi::Function& callback) : Napi::AsyncWorker(callback) {}

  /** Keeps a buffer until the work has ended; two at most. */
  void keep(const Napi::Value& value) { kept_[keptCount_++] = Napi::Persistent(value.As<Napi::Object>()); }

 protected:
  void OnOK() override { tell(Env(), Callback(), Napi::Number::New(Env(), answer_)); }

  void fail(int number) { answer_ = -number; }
  void damaged() { answer_ = DAMAGED; }

  double answer_ = 0;

 private:
  std::array<Napi::ObjectReference, 2> kept_;
  size_t keptCount_ = 0;
};

/**
 * Copies into one file write in the order of their calls. libuv's threads take work in that order: the one that is waited
 * for has a thread, or has had one.
 */
class CopyRange final : public Transfer {
 public:
  CopyRange(const Napi::Function& callback, const fileCopy::Range& range)
      : Transfer(callback), range_(range), ending_(std::make_shared<fileCopy::Ending>()) {}
  CopyRange(const CopyRange&) = delete;
  CopyRange& operator=(const CopyRange&) = delete;
  ~CopyRange() override { ending_->tell(); }

  /** Takes its place in the order, and in that of the threads. */
  void enqueue() {
    const std::scoped_lock lock(orderMutex);
    before_ = std::exchange(lastOf[range_.target], ending_).lock();
    Queue();
  }

  void Execute() override {
    fail(fileCopy::copySparse(range_, before_.get()).number);
    before_.reset();
    ending_->tell();
  }

 private:
  static inline std::mutex orderMutex;
  /** By the target's descriptor. */
  static inline std::map<int, std::weak_ptr<fileCopy::Ending>> lastOf;

  fileCopy::Range range_;
  std::shared_ptr<fileCopy::Ending> before_;
  std::shared_ptr<fileCopy::Ending> ending_;
};

struct CompressedPlace {
  int descriptor;
  int64_t hostOffset;
  size_t sourceLength;
  CompressionType type;
  size_t clusterSize;
  /** Bytes of the cluster ahead of those that are wanted. */
  size_t skipped;
};

class DecompressCluster final : public Transfer {
 public:
  DecompressCluster(const Napi::Function& callback, const CompressedPlace& place, std::span<uint8_t> target)
      : Transfer(callback), place_(place), target_(target) {}

  void Execute() override {
    const bool whole = target_.size() == place_.clusterSize;
    const auto memory = fileCopy::threadMemory(place_.sourceLength + (whole ? 0 : place_.clusterSize));
    if (memory.empty()) return fail(ENOMEM);
    const auto source = memory.first(place_.sourceLength);
    const auto cluster = whole ? target_ : memory.subspan(place_.sourceLength);
    const SystemError error = fileCopy::readFully(place_.descriptor, place_.hostOffset, source);
    if (error) {
      fail(error.number);
    } else if (!clusterCodec::decompress(place_.type, source, cluster)) {
      damaged();
    } else if (!whole) {
      std::ranges::copy(cluster.subspan(place_.skipped, target_.size()), target_.begin());
    }
  }

 private:
  CompressedPlace place_;
  std::span<uint8_t> target_;
};

class CompressCluster final : public Transfer {
 public:
  CompressCluster(const Napi::Function& callback, CompressionType type, int level, std::span<const uint8_t> source,
                  std::span<uint8_t> target)
      : Transfer(callback), type_(type), level_(level), source_(source), target_(target) {}

  void Execute() override {
    answer_ = static_cast<double>(clusterCodec::compress(type_, level_, source_, target_));
  }

 private:
  CompressionType type_;
  int level_;
  std::span<const uint8_t> source_;
  std::span<uint8_t> target_;
};

constexpr int64_t MAXIMUM_DESCRIPTOR = 0x7fffffff;

Napi::Value copyRange(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  fileCopy::Range range{};
  range.source = static_cast<int>(arguments.number(MAXIMUM_DESCRIPTOR));
  range.sourceOffset = arguments.number(MAXIMUM_SAFE);
  range.target = static_cast<int>(arguments.number(MAXIMUM_DESCRIPTOR));
  range.targetOffset = arguments.number(MAXIMUM_SAFE);
  range.length = arguments.number(MAXIMUM_SAFE);
  range.blockLength = arguments.number(1 << 30);
  range.shares = arguments.flag();
  const Napi::Function callback = arguments.callback();
  if (arguments.refused()) return info.Env().Undefined();
  (new CopyRange(callback, range))->enqueue();
  return info.Env().Undefined();
}

Napi::Value decompressCluster(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  CompressedPlace place{};
  Napi::Value target;
  place.descriptor = static_cast<int>(arguments.number(MAXIMUM_DESCRIPTOR));
  place.hostOffset = arguments.number(MAXIMUM_SAFE);
  place.sourceLength = static_cast<size_t>(arguments.number(MAXIMUM_COMPRESSED));
  place.type = arguments.compression();
  place.clusterSize = static_cast<size_t>(arguments.number(MAXIMUM_CLUSTER));
  place.skipped = static_cast<size_t>(arguments.number(MAXIMUM_CLUSTER));
  const std::span<uint8_t> bytes = arguments.bytes(target);
  const Napi::Function callback = arguments.callback();
  if (place.skipped + bytes.size() > place.clusterSize) arguments.refuse();
  if (arguments.refused()) return info.Env().Undefined();
  auto* work = new DecompressCluster(callback, place, bytes);
  work->keep(target);
  work->Queue();
  return info.Env().Undefined();
}

Napi::Value compressCluster(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  Napi::Value source;
  Napi::Value target;
  const CompressionType type = arguments.compression();
  const int level = static_cast<int>(arguments.number(22));
  const std::span<uint8_t> from = arguments.bytes(source);
  const std::span<uint8_t> into = arguments.bytes(target);
  const Napi::Function callback = arguments.callback();
  if (from.size() > MAXIMUM_CLUSTER || into.size() > MAXIMUM_COMPRESSED) arguments.refuse();
  if (arguments.refused()) return info.Env().Undefined();
  auto* work = new CompressCluster(callback, type, level, from, into);
  work->keep(source);
  work->keep(target);
  work->Queue();
  return info.Env().Undefined();
}

/**
 * Puts into `runs` where stretches of blocks begin that are not zeros, and where they end, by turns; returns how many of
 * these numbers there are.
 */
Napi::Value findData(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  Napi::Value value;
  const std::span<uint8_t> bytes = arguments.bytes(value);
  const auto blockLength = static_cast<size_t>(arguments.number(1 << 30));
  Napi::Int32Array places = arguments.numbers();
  if (blockLength == 0 || bytes.size() > (size_t{1} << 30)) arguments.refuse();
  if (arguments.refused()) return info.Env().Undefined();
  size_t count = 0;
  bool inData = false;
  const size_t room = places.ElementLength();
  for (size_t start = 0; start < bytes.size(); start += blockLength) {
    const bool data = !fileCopy::isZero(bytes.subspan(start, std::min(blockLength, bytes.size() - start)));
    if (data == inData) continue;
    if (count == room) break;
    places[count++] = static_cast<int32_t>(start);
    inData = data;
  }
  if (inData && count < room) places[count++] = static_cast<int32_t>(bytes.size());
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value codecAvailable(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const CompressionType type = arguments.compression();
  if (arguments.refused()) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), clusterCodec::available(type));
}

}  // namespace

void exportTransfer(Napi::Env env, Napi::Object exports) {
  exports.Set("copyRange", Napi::Function::New(env, copyRange, "copyRange"));
  exports.Set("decompressCluster", Napi::Function::New(env, decompressCluster, "decompressCluster"));
  exports.Set("compressCluster", Napi::Function::New(env, compressCluster, "compressCluster"));
  exports.Set("findData", Napi::Function::New(env, findData, "findData"));
  exports.Set("codecAvailable", Napi::Function::New(env, codecAvailable, "codecAvailable"));
}

}  // namespace corral
