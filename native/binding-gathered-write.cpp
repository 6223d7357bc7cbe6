// JavaScript's view of several writes at once: `writeGathered`, which one of libuv's threads carries out one after the
// other. A thread for each of them costs more than they do, and the kernel lets one at a time into a file anyway. The thread
// goes on with what was asked for meanwhile, and does not wait until JavaScript has heard of the end of what it has done.

#include <sys/uio.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
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

/** What one call asks for, and then what came of it. Made and destroyed by JavaScript's thread. */
struct Round {
  std::vector<iovec> pieces;
  std::vector<Place> places;
  /** An errno or 0 for each place. */
  std::vector<int32_t> answers;
  Napi::FunctionReference callback;
  /** Keeps what the pieces are memory of. */
  Napi::ObjectReference kept;

  void carryOut(int descriptor) {
    const std::span<iovec> all(pieces);
    for (const auto& [offset, firstPiece, pieceCount] : places) {
      const std::span<iovec> some = all.subspan(firstPiece, pieceCount);
      fileCopy::reserveBehindEnd(descriptor, offset, fileCopy::lengthOf(some));
      answers.push_back(fileCopy::writeFully(descriptor, offset, some).number);
    }
  }

  /** False when JavaScript could not be called, or has thrown. */
  [[nodiscard]] bool answer(napi_env env) const {
    void* bytes = nullptr;
    napi_value buffer = nullptr;
    napi_value array = nullptr;
    const size_t length = answers.size() * sizeof(int32_t);
    if (napi_create_arraybuffer(env, length, &bytes, &buffer) != napi_ok) return false;
    std::memcpy(bytes, answers.data(), length);
    return napi_create_typedarray(env, napi_int32_array, answers.size(), buffer, 0, &array) == napi_ok &&
           tell(env, callback, array);
  }
};

/** The rounds of one environment of JavaScript. */
class Rounds {
 public:
  /** Returns null when there is an exception. */
  static std::unique_ptr<Rounds> of(Napi::Env env) {
    auto rounds = std::make_unique<Rounds>();
    const auto hear = [](napi_env environment, napi_value, void* context, void*) {
      // No environment: it ends, and nobody is there to be told.
      if (environment != nullptr) static_cast<Rounds*>(context)->answer(environment);
    };
    const Napi::String name = Napi::String::New(env, "writeGathered");
    const napi_status made = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr,
                                                             rounds.get(), hear, &rounds->teller_);
    // What is under way keeps the environment going; being told of it does not.
    if (made != napi_ok || napi_unref_threadsafe_function(env, rounds->teller_) != napi_ok) return nullptr;
    return rounds;
  }

  /** True: no thread is at work on this file, and one has to be sent. */
  bool add(int descriptor, std::unique_ptr<Round> round) {
    const std::scoped_lock lock(mutex_);
    const auto [file, isNew] = waiting_.try_emplace(descriptor);
    file->second.push_back(std::move(round));
    return isNew;
  }

  /** Carries out all rounds of a file until none waits. For a thread that may wait. */
  void work(int descriptor) {
    for (std::unique_ptr<Round> round = next(descriptor); round != nullptr; round = next(descriptor)) {
      round->carryOut(descriptor);
      const std::scoped_lock lock(mutex_);
      ended_.push_back(std::move(round));
    }
  }

  /** Tells JavaScript of all that have ended. */
  void answer(Napi::Env env) {
    std::vector<std::unique_ptr<Round>> ended;
    {
      const std::scoped_lock lock(mutex_);
      ended.swap(ended_);
    }
    const Napi::HandleScope scope(env);
    for (const std::unique_ptr<Round>& round : ended) {
      // An environment that ends runs nothing any more, and takes no exception either.
      if (!round->answer(env)) return;
    }
  }

 private:
  /** The last one is told of when the thread has ended, which JavaScript hears of anyway. */
  std::unique_ptr<Round> next(int descriptor) {
    std::unique_lock lock(mutex_);
    const auto file = waiting_.find(descriptor);
    if (file->second.empty()) {
      waiting_.erase(file);
      return nullptr;
    }
    std::unique_ptr<Round> round = std::move(file->second.front());
    file->second.pop_front();
    const bool tells = !ended_.empty();
    lock.unlock();
    // It fails when the environment ends, and nobody is there to be told.
    if (tells) napi_call_threadsafe_function(teller_, nullptr, napi_tsfn_nonblocking);
    return round;
  }

  napi_threadsafe_function teller_ = nullptr;
  std::mutex mutex_;
  /** Of the files that a thread is at work on, by their descriptors. */
  std::map<int, std::deque<std::unique_ptr<Round>>> waiting_;
  std::vector<std::unique_ptr<Round>> ended_;
};

/** The thread's work on one file. An environment waits for it before it ends. */
class FileWork final : public Napi::AsyncWorker {
 public:
  FileWork(Napi::Env env, Rounds& rounds, int descriptor)
      : Napi::AsyncWorker(env), rounds_(rounds), descriptor_(descriptor) {}

  void Execute() override { rounds_.work(descriptor_); }

 protected:
  void OnOK() override { rounds_.answer(Env()); }

 private:
  Rounds& rounds_;
  int descriptor_;
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
  auto round = std::make_unique<Round>();
  if (!info[0].IsNumber() || !info[1].IsArray() || !placesGiven || !info[3].IsFunction() ||
      !readPieces(info[1].As<Napi::Array>(), round->pieces) ||
      !readPlaces(info[2].As<Napi::Float64Array>(), round->pieces.size(), round->places)) {
    Napi::TypeError::New(info.Env(), "a descriptor, pieces, their places and a callback are needed")
        .ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const int descriptor = info[0].As<Napi::Number>().Int32Value();
  round->answers.reserve(round->places.size());
  round->callback = Napi::Persistent(info[3].As<Napi::Function>());
  round->kept = Napi::Persistent(info[1].As<Napi::Object>());
  auto& rounds = *static_cast<Rounds*>(info.Data());
  if (rounds.add(descriptor, std::move(round))) (new FileWork(info.Env(), rounds, descriptor))->Queue();
  return info.Env().Undefined();
}

}  // namespace

void exportGatheredWrite(Napi::Env env, Napi::Object exports) {
  std::unique_ptr<Rounds> rounds = Rounds::of(env);
  if (rounds == nullptr) {
    Napi::Error::New(env, "no way to tell of the end of writes").ThrowAsJavaScriptException();
    return;
  }
  exports.Set("writeGathered", Napi::Function::New(env, writeGathered, "writeGathered", rounds.get()));
  env.AddCleanupHook([](Rounds* ended) { delete ended; }, rounds.release());
}

}  // namespace corral
