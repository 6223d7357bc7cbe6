// JavaScript's view of several writes at once: `writeGathered`, which one of libuv's threads carries out one after the
// other. A thread for each of them costs more than they do, and the kernel lets one at a time into a file anyway.

#include <sys/uio.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "binding.hpp"
#include "file-copy.hpp"

namespace corral {

namespace {

/** Pieces that lie one behind the other in the file. */
struct Place {
  int64_t offset;
  size_t firstPiece;
  size_t pieceCount;
};

class GatheredWrite final : public Napi::AsyncWorker {
 public:
  GatheredWrite(const Napi::Function& callback, int descriptor, std::vector<iovec> pieces, std::vector<Place> places)
      : Napi::AsyncWorker(callback),
        descriptor_(descriptor),
        pieces_(std::move(pieces)),
        places_(std::move(places)),
        answers_(places_.size()) {}

  /** Keeps what the pieces are memory of. */
  void keep(const Napi::Object& pieces) { kept_ = Napi::Persistent(pieces); }

  void Execute() override {
    const std::span<iovec> all(pieces_);
    for (size_t index = 0; index < places_.size(); index++) {
      const auto& [offset, firstPiece, pieceCount] = places_[index];
      const std::span<iovec> pieces = all.subspan(firstPiece, pieceCount);
      fileCopy::reserveBehindEnd(descriptor_, offset, fileCopy::lengthOf(pieces));
      answers_[index] = fileCopy::writeFully(descriptor_, offset, pieces).number;
    }
  }

 protected:
  void OnOK() override {
    Napi::Int32Array answers = Napi::Int32Array::New(Env(), answers_.size());
    std::ranges::copy(answers_, answers.Data());
    Callback().Call({answers});
  }

 private:
  int descriptor_;
  std::vector<iovec> pieces_;
  std::vector<Place> places_;
  std::vector<int32_t> answers_;
  Napi::ObjectReference kept_;
};

bool readPieces(const Napi::Array& array, std::vector<iovec>& pieces) {
  pieces.reserve(array.Length());
  for (uint32_t index = 0; index < array.Length(); index++) {
    const Napi::Value value = array[index];
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) return false;
    auto bytes = value.As<Napi::Uint8Array>();
    pieces.push_back({bytes.Data(), bytes.ByteLength()});
  }
  return true;
}

/** By turns where a write begins and how many pieces it has; together all of them. */
bool readPlaces(const Napi::Float64Array& numbers, size_t pieceCount, std::vector<Place>& places) {
  size_t next = 0;
  places.reserve(numbers.ElementLength() / 2);
  for (size_t index = 0; index + 1 < numbers.ElementLength(); index += 2) {
    const double offset = numbers[index];
    const double count = numbers[index + 1];
    if (!(offset >= 0 && offset <= 9007199254740991.0)) return false;
    if (!(count >= 0 && count <= static_cast<double>(pieceCount - next))) return false;
    places.push_back({static_cast<int64_t>(offset), next, static_cast<size_t>(count)});
    next += static_cast<size_t>(count);
  }
  return next == pieceCount;
}

Napi::Value writeGathered(const Napi::CallbackInfo& info) {
  const bool placesGiven =
      info[2].IsTypedArray() && info[2].As<Napi::TypedArray>().TypedArrayType() == napi_float64_array;
  std::vector<iovec> pieces;
  std::vector<Place> places;
  if (!info[0].IsNumber() || !info[1].IsArray() || !placesGiven || !info[3].IsFunction() ||
      !readPieces(info[1].As<Napi::Array>(), pieces) ||
      !readPlaces(info[2].As<Napi::Float64Array>(), pieces.size(), places)) {
    Napi::TypeError::New(info.Env(), "a descriptor, pieces, their places and a callback are needed")
        .ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const int descriptor = info[0].As<Napi::Number>().Int32Value();
  auto* work = new GatheredWrite(info[3].As<Napi::Function>(), descriptor, std::move(pieces), std::move(places));
  work->keep(info[1].As<Napi::Object>());
  work->Queue();
  return info.Env().Undefined();
}

}  // namespace

void exportGatheredWrite(Napi::Env env, Napi::Object exports) {
  exports.Set("writeGathered", Napi::Function::New(env, writeGathered, "writeGathered"));
}

}  // namespace corral
