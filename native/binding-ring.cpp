// JavaScript's view of a BlockRing: the class `Ring`, and `Waker` for other threads.

#include <unistd.h>

#include <span>
#include <string>
#include <string_view>

#include "binding.hpp"
#include "block-ring.hpp"

namespace corral {

namespace {

/** Two of the largest clusters. */
constexpr double MAX_SCRATCH_LENGTH = 4u << 20;

/** A ring and everything of JavaScript's that it points into. Shared by the object and its `turn` function. */
struct RingState {
  Napi::ObjectReference memory;
  Napi::ObjectReference scratch;
  Napi::Reference<Napi::Int32Array> outgoing;
  Napi::Reference<Napi::Int32Array> events;
  Napi::Reference<Napi::ArrayBuffer> guestBuffers;
  Napi::Reference<Napi::Int32Array> guestLengths;
  Napi::Reference<Napi::ArrayBuffer> descriptors;
  Napi::Reference<Napi::Int32Array> answers;
  /** Last, so that it ends before what it points into is let go. */
  std::unique_ptr<BlockRing> ring;
};

/** The one hot call, without any wrapping: what goes in and out is in the heads of the quads. */
napi_value turn(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  throwIf(env, (*static_cast<std::shared_ptr<RingState>*>(data))->ring->turn());
  return nullptr;
}

void releaseState(napi_env, void* data, void*) { delete static_cast<std::shared_ptr<RingState>*>(data); }

/** A function that keeps the state alive by itself, whatever becomes of the object that it was taken from. */
napi_value makeTurn(napi_env env, const std::shared_ptr<RingState>& state) {
  auto* holder = new std::shared_ptr<RingState>(state);
  napi_value function = nullptr;
  napi_create_function(env, "turn", NAPI_AUTO_LENGTH, turn, holder, &function);
  napi_add_finalizer(env, function, holder, releaseState, nullptr, nullptr);
  return function;
}

class RingBinding : public Napi::ObjectWrap<RingBinding> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Ring",
                       {
                           InstanceMethod<&RingBinding::setFile>("setFile"),
                           InstanceMethod<&RingBinding::setDataFile>("setDataFile"),
                           InstanceMethod<&RingBinding::setGuestBuffers>("setGuestBuffers"),
                           InstanceMethod<&RingBinding::setScratch>("setScratch"),
                           InstanceMethod<&RingBinding::setMemory>("setMemory"),
                           InstanceMethod<&RingBinding::deliver>("deliver"),
                           InstanceMethod<&RingBinding::attachQueue>("attachQueue"),
                           InstanceMethod<&RingBinding::setDeviceSize>("setDeviceSize"),
                           InstanceMethod<&RingBinding::pretendQueue>("pretendQueue"),
                           InstanceMethod<&RingBinding::pretendFetched>("pretendFetched"),
                           InstanceMethod<&RingBinding::wake>("wake"),
                           InstanceMethod<&RingBinding::close>("close"),
                           InstanceMethod<&RingBinding::statistics>("statistics"),
                           InstanceAccessor<&RingBinding::wakeNumber>("wakeDescriptor"),
                       });
  }

  explicit RingBinding(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<RingBinding>(info), state_(std::make_shared<RingState>()) {
    Options options(info[0]);
    const MemoryView memory = options.memory("memory");
    Napi::Int32Array outgoing = options.numbers("outgoing");
    Napi::Int32Array events = options.numbers("events");
    BlockRingOptions made;
    made.memory = readMemory(options, memory);
    if (options.refused()) return;
    made.outgoing = outgoing.Data();
    made.outgoingQuads = static_cast<uint32_t>(outgoing.ElementLength() / QUAD);
    made.events = events.Data();
    made.eventQuads = static_cast<uint32_t>(events.ElementLength() / QUAD);

    auto ring = BlockRing::create(made);
    if (!ring) {
      throwIf(info.Env(), ring.error());
      return;
    }
    state_->ring = std::move(*ring);
    state_->memory = Napi::Persistent(memory.object);
    state_->outgoing = Napi::Persistent(outgoing);
    state_->events = Napi::Persistent(events);
    Value().Set("turn", Napi::Value(info.Env(), makeTurn(info.Env(), state_)));
  }

 private:
  BlockRing& ring() const { return *state_->ring; }

  /** `setFile(descriptor, { writable, ignoresFlushes, forbidden })` */
  Napi::Value setFile(const Napi::CallbackInfo& info) { return takeFile(info, abi::OperationFile::Image); }

  /** `setDataFile(descriptor, { writable })` */
  Napi::Value setDataFile(const Napi::CallbackInfo& info) { return takeFile(info, abi::OperationFile::Data); }

  Napi::Value takeFile(const Napi::CallbackInfo& info, abi::OperationFile file) {
    Options options(info[1]);
    const bool writable = options.flagOr("writable", false);
    const bool ignoresFlushes = options.flagOr("ignoresFlushes", false);
    const MemoryView forbidden = options.memoryOr("forbidden");
    if (options.refused()) return info.Env().Undefined();
    const int number = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
    const ForbiddenStart start(std::span<const uint8_t>(forbidden.data, forbidden.length));
    throwIf(info.Env(), ring().setFile(file, number, {writable, ignoresFlushes, start}));
    return info.Env().Undefined();
  }

  /** `setGuestBuffers({ buffer, stride, lengths })` */
  Napi::Value setGuestBuffers(const Napi::CallbackInfo& info) {
    Options options(info[0]);
    Napi::ArrayBuffer buffer = options.buffer("buffer");
    Napi::Int32Array lengths = options.numbers("lengths");
    const auto stride = static_cast<uint32_t>(options.number("stride", 1u << 30));
    const auto firstSlot = static_cast<uint32_t>(options.numberOr("firstSlot", 1 << 20, 0));
    if (options.refused()) return info.Env().Undefined();
    if (stride == 0 || lengths.ElementLength() < buffer.ByteLength() / stride) {
      Napi::TypeError::New(info.Env(), "lengths must hold one number a slot").ThrowAsJavaScriptException();
      return info.Env().Undefined();
    }
    auto* base = static_cast<uint8_t*>(buffer.Data());
    if (throwIf(info.Env(), ring().setGuestBuffers(base, buffer.ByteLength(), stride, firstSlot, lengths.Data()))) {
      return info.Env().Undefined();
    }
    state_->guestBuffers = Napi::Persistent(buffer);
    state_->guestLengths = Napi::Persistent(lengths);
    return info.Env().Undefined();
  }

  /** `setScratch(length)`, or `setScratch(bytes)` with memory that several rings share */
  Napi::Value setScratch(const Napi::CallbackInfo& info) {
    if (info[0].IsTypedArray() && info[0].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
      auto bytes = info[0].As<Napi::Uint8Array>();
      if (!throwIf(info.Env(), ring().shareScratch(bytes.Data(), bytes.ByteLength()))) {
        state_->scratch = Napi::Persistent(info[0].As<Napi::Object>());
      }
      return info.Env().Undefined();
    }
    const double length = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 0;
    const bool sane = length >= 1 && length <= MAX_SCRATCH_LENGTH;
    throwIf(info.Env(), sane ? ring().setScratch(static_cast<uint32_t>(length)) : SystemError{"set scratch", EINVAL});
    return info.Env().Undefined();
  }

  static CoreMemory readMemory(Options& options, const MemoryView& memory) {
    CoreMemory read;
    read.base = memory.data;
    read.length = memory.length;
    read.operations = static_cast<uint32_t>(options.number("operations", UINT32_MAX));
    read.operationCapacity = static_cast<uint32_t>(options.number("operationCapacity", 1 << 20));
    read.requests = static_cast<uint32_t>(options.number("requests", UINT32_MAX));
    read.requestCapacity = static_cast<uint32_t>(options.number("requestCapacity", 1 << 20));
    return read;
  }

  /** `setMemory({ memory, operations, … })` */
  Napi::Value setMemory(const Napi::CallbackInfo& info) {
    Options options(info[0]);
    const MemoryView memory = options.memory("memory");
    const CoreMemory wanted = readMemory(options, memory);
    if (!options.refused() && !throwIf(info.Env(), ring().setMemory(wanted))) {
      state_->memory = Napi::Persistent(memory.object);
    }
    return info.Env().Undefined();
  }

  /** `deliver(operation, bytes)`; bytes are a Uint8Array, also one of shared memory, or null */
  Napi::Value deliver(const Napi::CallbackInfo& info) {
    const double operation = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    const bool given = info[1].IsTypedArray() && info[1].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
    if (!(operation >= 0 && operation <= UINT32_MAX) || !(given || info[1].IsNull())) {
      Napi::TypeError::New(info.Env(), "deliver takes an operation and its bytes or null").ThrowAsJavaScriptException();
      return info.Env().Undefined();
    }
    const uint8_t* bytes = nullptr;
    size_t length = 0;
    if (given) {
      const auto array = info[1].As<Napi::Uint8Array>();
      static constexpr uint8_t NOTHING = 0;
      length = array.ElementLength();
      bytes = length == 0 ? &NOTHING : array.Data();
    }
    return Napi::Boolean::New(info.Env(), ring().deliver(static_cast<uint32_t>(operation), bytes, length));
  }

  static UblkQueueOptions readQueue(Options& options) {
    UblkQueueOptions queue;
    queue.deviceId = static_cast<uint32_t>(options.number("deviceId", UINT32_MAX));
    queue.queueId = static_cast<uint16_t>(options.numberOr("queueId", UINT16_MAX, 0));
    queue.depth = static_cast<uint32_t>(options.number("depth", ublk::MAX_QUEUE_DEPTH));
    queue.maxIoBytes = static_cast<uint32_t>(options.number("maxIoBytes", ublk::MAX_IO_BYTES));
    queue.deviceSize = options.number("deviceSize", INT64_MAX);
    queue.unmap = options.flagOr("unmap", true);
    queue.durable = options.flagOr("durable", false);
    queue.firstSlot = static_cast<uint32_t>(options.numberOr("firstSlot", 1 << 20, 0));
    queue.path = static_cast<DataPath>(options.numberOr("path", 3, static_cast<uint64_t>(DataPath::Plain)));
    queue.autoBuffers = options.flagOr("autoBuffers", false);
    queue.pinned = options.flagOr("pinned", false);
    queue.answersNothing = options.flagOr("answersNothing", false);
    return queue;
  }

  Napi::Value attachQueue(const Napi::CallbackInfo& info) {
    Options options(info[0]);
    UblkQueueOptions queue = readQueue(options);
    const auto device = options.numberOr("device", INT32_MAX, UINT64_MAX);
    if (device != UINT64_MAX) queue.device = static_cast<int>(device);
    if (options.refused() || throwIf(info.Env(), ring().attachQueue(queue))) return info.Env().Undefined();
    return Napi::Number::New(info.Env(), ring().deviceNumber());
  }

  /** `setDeviceSize(bytes)` */
  Napi::Value setDeviceSize(const Napi::CallbackInfo& info) {
    const double size = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
    const bool sane = size >= 0 && size <= 9007199254740991.0;
    if (sane) ring().setDeviceSize(static_cast<uint64_t>(size));
    throwIf(info.Env(), sane ? NO_ERROR : SystemError{"set device size", EINVAL});
    return info.Env().Undefined();
  }

  Napi::Value pretendQueue(const Napi::CallbackInfo& info) {
    Options options(info[0]);
    const UblkQueueOptions queue = readQueue(options);
    Napi::ArrayBuffer descriptors = options.buffer("descriptors");
    Napi::Int32Array answers = options.numbers("answers");
    const int device = static_cast<int>(options.numberOr("device", INT32_MAX, INT32_MAX));
    if (options.refused()) return info.Env().Undefined();
    if (descriptors.ByteLength() < queue.depth * sizeof(ublk::RequestDescriptor) ||
        answers.ElementLength() < queue.depth) {
      Napi::TypeError::New(info.Env(), "descriptors and answers must hold one a tag").ThrowAsJavaScriptException();
      return info.Env().Undefined();
    }
    const auto* first = static_cast<const ublk::RequestDescriptor*>(descriptors.Data());
    if (throwIf(info.Env(), ring().pretendQueue(queue, first, answers.Data(), device))) return info.Env().Undefined();
    state_->descriptors = Napi::Persistent(descriptors);
    state_->answers = Napi::Persistent(answers);
    return info.Env().Undefined();
  }

  Napi::Value pretendFetched(const Napi::CallbackInfo& info) {
    ring().pretendFetched(info[0].ToNumber().Uint32Value(), info[1].ToNumber().Int32Value());
    return info.Env().Undefined();
  }

  Napi::Value wake(const Napi::CallbackInfo& info) {
    ring().wake();
    return info.Env().Undefined();
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    ring().close();
    return info.Env().Undefined();
  }

  Napi::Value statistics(const Napi::CallbackInfo& info) {
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("violations", static_cast<double>(ring().violations()));
    object.Set("malformed", static_cast<double>(ring().malformed()));
    object.Set("operationsInFlight", ring().operationsInFlight());
    object.Set("setupFlags", ring().setupFlags());
    return object;
  }

  Napi::Value wakeNumber(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), ring().wakeNumber());
  }

  std::shared_ptr<RingState> state_;
};

/**
 * Whether a descriptor is an eventfd's. Its number came from another thread, whose ring may be gone since: what has the
 * number now may be a disk, and a wake is a write. True where there is no /proc to ask.
 */
bool isEventCounter(int number) {
  const std::string path = "/proc/self/fd/" + std::to_string(number);
  char target[64];
  const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
  return length < 0 || std::string_view(target, static_cast<size_t>(length)) == "anon_inode:[eventfd]";
}

/** Wakes a ring of another thread; owns a descriptor of its own, so that the ring may end first. */
class WakerBinding : public Napi::ObjectWrap<WakerBinding> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Waker",
                       {
                           InstanceMethod<&WakerBinding::wake>("wake"),
                           InstanceMethod<&WakerBinding::close>("close"),
                       });
  }

  explicit WakerBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<WakerBinding>(info) {
    auto copy = FileDescriptor::duplicate(info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1);
    if (!copy) {
      throwIf(info.Env(), copy.error());
    } else if (!isEventCounter(copy->number())) {
      throwIf(info.Env(), {"make waker", EINVAL});
    } else {
      descriptor_ = std::move(*copy);
    }
  }

 private:
  Napi::Value wake(const Napi::CallbackInfo& info) {
    const uint64_t one = 1;
    while (descriptor_ && ::write(descriptor_.number(), &one, sizeof one) < 0 && errno == EINTR) {
    }
    return info.Env().Undefined();
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    descriptor_.reset();
    return info.Env().Undefined();
  }

  FileDescriptor descriptor_;
};

}  // namespace

void exportRing(Napi::Env env, Napi::Object exports) {
  exports.Set("Ring", RingBinding::define(env));
  exports.Set("Waker", WakerBinding::define(env));
}

}  // namespace corral
