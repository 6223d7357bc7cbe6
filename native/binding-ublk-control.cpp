// JavaScript's view of the ublk control plane: each command is a function that returns a promise.

#include <functional>

#include "binding.hpp"
#include "ublk-control.hpp"

namespace corral {

namespace {

/** Runs a blocking command on a thread of libuv's pool and settles a promise with its answer. */
template <class Answer>
class Command : public Napi::AsyncWorker {
 public:
  using Run = std::function<Result<Answer>()>;
  using Convert = Napi::Value (*)(Napi::Env, const Answer&);

  static Napi::Value start(Napi::Env env, Run run, Convert convert) {
    auto* command = new Command(env, std::move(run), convert);
    const Napi::Promise promise = command->deferred_.Promise();
    command->Queue();
    return promise;
  }

  void Execute() override { result_ = run_(); }

  void OnOK() override {
    if (result_) {
      deferred_.Resolve(convert_(Env(), *result_));
    } else {
      deferred_.Reject(toError(Env(), result_.error()).Value());
    }
  }

 private:
  Command(Napi::Env env, Run run, Convert convert)
      : Napi::AsyncWorker(env), deferred_(env), run_(std::move(run)), convert_(convert) {}

  Napi::Promise::Deferred deferred_;
  Run run_;
  Convert convert_;
  Result<Answer> result_ = SystemError{"ublk command", EINVAL};
};

/** Nothing, as an answer. */
struct Done {};

Napi::Value toUndefined(Napi::Env env, const Done&) { return env.Undefined(); }

Result<Done> doneUnless(const SystemError& error) {
  if (error) return error;
  return Done{};
}

Napi::Value toNumber(Napi::Env env, const uint64_t& value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value toInfo(Napi::Env env, const ublk::DeviceInfo& info) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", info.deviceId);
  object.Set("queues", info.queueCount);
  object.Set("queueDepth", info.queueDepth);
  object.Set("maxIoBytes", info.maxIoBytes);
  object.Set("state", info.state);
  object.Set("serverPid", info.serverProcess);
  object.Set("flags", static_cast<double>(info.flags));
  object.Set("mark", static_cast<double>(info.serverFlags));
  object.Set("ownerUid", info.ownerUser);
  object.Set("ownerGid", info.ownerGroup);
  return object;
}

Napi::Value toParameters(Napi::Env env, const ublk::BasicParameters& parameters) {
  const auto is = [&](uint32_t attribute) { return (parameters.attributes & attribute) != 0; };
  Napi::Object object = Napi::Object::New(env);
  object.Set("size", static_cast<double>(parameters.deviceSectors << ublk::SECTOR_BITS));
  object.Set("readOnly", is(ublk::ATTRIBUTE_READ_ONLY));
  object.Set("rotational", is(ublk::ATTRIBUTE_ROTATIONAL));
  object.Set("volatileCache", is(ublk::ATTRIBUTE_VOLATILE_CACHE));
  object.Set("fua", is(ublk::ATTRIBUTE_FUA));
  object.Set("logicalBlockSize", 1u << (parameters.logicalBlockBits & 31));
  object.Set("physicalBlockSize", 1u << (parameters.physicalBlockBits & 31));
  object.Set("ioMin", 1u << (parameters.ioMinBits & 31));
  object.Set("ioOpt", 1u << (parameters.ioOptBits & 31));
  object.Set("maxIoBytes", static_cast<double>(uint64_t{parameters.maxSectors} << ublk::SECTOR_BITS));
  return object;
}

/** The id that is the first argument; throws and says false when it is none. */
bool readId(const Napi::CallbackInfo& info, uint32_t& id) {
  const double number = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
  if (number >= 0 && number < 0xffffffff && number == static_cast<double>(static_cast<uint32_t>(number))) {
    id = static_cast<uint32_t>(number);
    return true;
  }
  Napi::TypeError::New(info.Env(), "a device id is needed").ThrowAsJavaScriptException();
  return false;
}

uint8_t bitsOf(uint64_t powerOfTwo) { return static_cast<uint8_t>(63 - __builtin_clzll(powerOfTwo | 1)); }

Napi::Value features(const Napi::CallbackInfo& info) {
  return Command<uint64_t>::start(info.Env(), ublkFeatures, toNumber);
}

Napi::Value addDevice(const Napi::CallbackInfo& info) {
  Options options(info[0]);
  UblkDeviceRequest request;
  request.deviceId = static_cast<uint32_t>(options.numberOr("id", ublk::ANY_DEVICE - 1, ublk::ANY_DEVICE));
  request.queueCount = static_cast<uint16_t>(options.numberOr("queues", 4096, 1));
  request.queueDepth = static_cast<uint16_t>(options.number("queueDepth", ublk::MAX_QUEUE_DEPTH));
  request.maxIoBytes = static_cast<uint32_t>(options.number("maxIoBytes", ublk::MAX_IO_BYTES));
  request.flags = options.numberOr("flags", UINT64_MAX, ublk::FEATURE_IOCTL_ENCODE);
  request.mark = options.numberOr("mark", UINT64_MAX, 0);
  if (options.refused()) return info.Env().Undefined();
  return Command<ublk::DeviceInfo>::start(info.Env(), [request] { return ublkAdd(request); }, toInfo);
}

Napi::Value setParameters(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  Options options(info[1]);
  ublk::BasicParameters parameters{};
  parameters.deviceSectors = options.number("size", INT64_MAX) >> ublk::SECTOR_BITS;
  parameters.maxSectors = static_cast<uint32_t>(options.number("maxIoBytes", ublk::MAX_IO_BYTES) >> ublk::SECTOR_BITS);
  const uint64_t logical = options.numberOr("logicalBlockSize", 1 << 16, 512);
  const uint64_t physical = options.numberOr("physicalBlockSize", 1 << 20, 4096);
  parameters.logicalBlockBits = bitsOf(logical);
  parameters.physicalBlockBits = bitsOf(physical);
  parameters.ioMinBits = bitsOf(options.numberOr("ioMin", 1u << 30, physical));
  parameters.ioOptBits = bitsOf(options.numberOr("ioOpt", 1u << 30, physical));
  if (options.flagOr("readOnly", false)) parameters.attributes |= ublk::ATTRIBUTE_READ_ONLY;
  if (options.flagOr("rotational", false)) parameters.attributes |= ublk::ATTRIBUTE_ROTATIONAL;
  if (options.flagOr("volatileCache", true)) parameters.attributes |= ublk::ATTRIBUTE_VOLATILE_CACHE;
  if (options.flagOr("fua", true)) parameters.attributes |= ublk::ATTRIBUTE_FUA;
  UblkDiscardLimits limits;
  limits.granularity = static_cast<uint32_t>(options.numberOr("discardGranularity", 1u << 30, 0));
  limits.maxDiscard = options.flagOr("discards", true) ? ublk::MAX_ZEROES_BYTES : 0;
  limits.maxZeroes = ublk::MAX_ZEROES_BYTES;
  if (options.refused()) return info.Env().Undefined();
  return Command<Done>::start(
      info.Env(),
      [id, parameters, limits] { return doneUnless(ublkSetParameters(id, parameters, limits)); },
      toUndefined);
}

Napi::Value startDevice(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  const int32_t process = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : ::getpid();
  return Command<Done>::start(info.Env(), [id, process] { return doneUnless(ublkStart(id, process)); }, toUndefined);
}

Napi::Value startRecovery(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  return Command<Done>::start(info.Env(), [id] { return doneUnless(ublkStartRecovery(id)); }, toUndefined);
}

Napi::Value endRecovery(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  const int32_t process = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : ::getpid();
  return Command<Done>::start(
      info.Env(), [id, process] { return doneUnless(ublkEndRecovery(id, process)); }, toUndefined);
}

Napi::Value updateSize(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  Options options(info[1]);
  const uint64_t sectors = options.number("size", INT64_MAX) >> ublk::SECTOR_BITS;
  if (options.refused()) return info.Env().Undefined();
  return Command<Done>::start(
      info.Env(), [id, sectors] { return doneUnless(ublkUpdateSize(id, sectors)); }, toUndefined);
}

Napi::Value quiesceDevice(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  Options options(info[1]);
  const uint32_t milliseconds = static_cast<uint32_t>(options.number("timeout", INT32_MAX));
  if (options.refused()) return info.Env().Undefined();
  return Command<Done>::start(
      info.Env(), [id, milliseconds] { return doneUnless(ublkQuiesce(id, milliseconds)); }, toUndefined);
}

Napi::Value stopDevice(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  return Command<Done>::start(info.Env(), [id] { return doneUnless(ublkStop(id)); }, toUndefined);
}

Napi::Value deleteDevice(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  return Command<Done>::start(info.Env(), [id] { return doneUnless(ublkDelete(id)); }, toUndefined);
}

Napi::Value deviceInfo(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  return Command<ublk::DeviceInfo>::start(info.Env(), [id] { return ublkInfo(id); }, toInfo);
}

Napi::Value deviceParameters(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  if (!readId(info, id)) return info.Env().Undefined();
  return Command<ublk::BasicParameters>::start(info.Env(), [id] { return ublkParameters(id); }, toParameters);
}

}  // namespace

void exportUblkControl(Napi::Env env, Napi::Object exports) {
  Napi::Object control = Napi::Object::New(env);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    control.Set(name, Napi::Function::New(env, function, name));
  };
  add("getFeatures", features);
  add("addDevice", addDevice);
  add("setParameters", setParameters);
  add("getParameters", deviceParameters);
  add("startDevice", startDevice);
  add("startRecovery", startRecovery);
  add("endRecovery", endRecovery);
  add("updateSize", updateSize);
  add("quiesceDevice", quiesceDevice);
  add("stopDevice", stopDevice);
  add("deleteDevice", deleteDevice);
  add("getInfo", deviceInfo);
  exports.Set("ublk", control);
}

}  // namespace corral
