#include "cluster-codec.hpp"

#include <dlfcn.h>

#if __has_include(<zlib.h>)
#include <zlib.h>
#define CORRAL_HAS_ZLIB_HEADER 1
#endif

namespace corral::clusterCodec {

namespace {

/** The function of this name in what is loaded, or in `library`. */
template <class Function>
bool find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(::dlsym(library, name));
  return function != nullptr;
}

#ifdef CORRAL_HAS_ZLIB_HEADER

/** Node exports its own zlib to addons. */
struct Zlib {
  decltype(::zlibVersion)* version = nullptr;
  decltype(::inflateInit2_)* beginInflate = nullptr;
  decltype(::inflateReset)* inflateReset = nullptr;
  decltype(::inflate)* inflate = nullptr;
  decltype(::inflateEnd)* inflateEnd = nullptr;
  decltype(::deflateInit2_)* beginDeflate = nullptr;
  decltype(::deflateReset)* deflateReset = nullptr;
  decltype(::deflate)* deflate = nullptr;
  decltype(::deflateEnd)* deflateEnd = nullptr;
  bool found = false;

  Zlib() {
    found = find(RTLD_DEFAULT, "zlibVersion", version) && find(RTLD_DEFAULT, "inflateInit2_", beginInflate) &&
            find(RTLD_DEFAULT, "inflateReset", inflateReset) && find(RTLD_DEFAULT, "inflate", inflate) &&
            find(RTLD_DEFAULT, "inflateEnd", inflateEnd) && find(RTLD_DEFAULT, "deflateInit2_", beginDeflate) &&
            find(RTLD_DEFAULT, "deflateReset", deflateReset) && find(RTLD_DEFAULT, "deflate", deflate) &&
            find(RTLD_DEFAULT, "deflateEnd", deflateEnd);
  }
};

const Zlib& zlib() {
  static const Zlib library;
  return library;
}

/** What every reader of qcow2 follows. */
constexpr int WINDOW_BITS = 12;
constexpr int MEMORY_LEVEL = 9;
/** Writers may have used more. */
constexpr int LARGEST_WINDOW_BITS = 15;

struct Inflater {
  z_stream stream{};
  bool ready = false;

  Inflater() {
    ready = zlib().beginInflate(&stream, -LARGEST_WINDOW_BITS, zlib().version(), sizeof(z_stream)) == Z_OK;
  }
  ~Inflater() {
    if (ready) zlib().inflateEnd(&stream);
  }
};

struct Deflater {
  z_stream stream{};
  int level = 0;
  bool ready = false;

  ~Deflater() { end(); }

  bool begin(int wanted) {
    if (ready && level == wanted) return zlib().deflateReset(&stream) == Z_OK;
    end();
    stream = {};
    level = wanted;
    const int libraryLevel = wanted == 0 ? Z_DEFAULT_COMPRESSION : wanted;
    ready = zlib().beginDeflate(&stream, libraryLevel, Z_DEFLATED, -WINDOW_BITS, MEMORY_LEVEL, Z_DEFAULT_STRATEGY,
                               zlib().version(), sizeof(z_stream)) == Z_OK;
    return ready;
  }

  void end() {
    if (ready) zlib().deflateEnd(&stream);
    ready = false;
  }
};

void setBuffers(z_stream& stream, std::span<const uint8_t> source, std::span<uint8_t> target) {
  stream.next_in = const_cast<Bytef*>(source.data());
  stream.avail_in = static_cast<uInt>(source.size());
  stream.next_out = target.data();
  stream.avail_out = static_cast<uInt>(target.size());
}

bool inflateCluster(std::span<const uint8_t> source, std::span<uint8_t> target) {
  thread_local Inflater inflater;
  if (!inflater.ready || zlib().inflateReset(&inflater.stream) != Z_OK) return false;
  setBuffers(inflater.stream, source, target);
  return zlib().inflate(&inflater.stream, Z_FINISH) == Z_STREAM_END && inflater.stream.avail_out == 0;
}

size_t deflateCluster(int level, std::span<const uint8_t> source, std::span<uint8_t> target) {
  thread_local Deflater deflater;
  if (!deflater.begin(level)) return 0;
  setBuffers(deflater.stream, source, target);
  if (zlib().deflate(&deflater.stream, Z_FINISH) != Z_STREAM_END) return 0;
  return target.size() - deflater.stream.avail_out;
}

bool hasZlib() { return zlib().found; }

#else

bool inflateCluster(std::span<const uint8_t>, std::span<uint8_t>) { return false; }
size_t deflateCluster(int, std::span<const uint8_t>, std::span<uint8_t>) { return 0; }
bool hasZlib() { return false; }

#endif

/** The stable part of libzstd's interface. */
struct Zstd {
  unsigned (*isError)(size_t) = nullptr;
  size_t (*findFrameCompressedSize)(const void*, size_t) = nullptr;
  void* (*createDecompressor)() = nullptr;
  size_t (*freeDecompressor)(void*) = nullptr;
  size_t (*decompress)(void*, void*, size_t, const void*, size_t) = nullptr;
  void* (*createCompressor)() = nullptr;
  size_t (*freeCompressor)(void*) = nullptr;
  size_t (*compress)(void*, void*, size_t, const void*, size_t, int) = nullptr;
  bool found = false;

  Zstd() {
    // Never closed: threads may be in it until the process ends.
    void* library = ::dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    found = find(library, "ZSTD_isError", isError) &&
            find(library, "ZSTD_findFrameCompressedSize", findFrameCompressedSize) &&
            find(library, "ZSTD_createDCtx", createDecompressor) && find(library, "ZSTD_freeDCtx", freeDecompressor) &&
            find(library, "ZSTD_decompressDCtx", decompress) && find(library, "ZSTD_createCCtx", createCompressor) &&
            find(library, "ZSTD_freeCCtx", freeCompressor) && find(library, "ZSTD_compressCCtx", compress);
  }

  template <class Type>
  bool find(void* library, const char* name, Type*& function) {
    return clusterCodec::find(library, name, function);
  }
};

const Zstd& zstd() {
  static const Zstd library;
  return library;
}

constexpr int DEFAULT_ZSTD_LEVEL = 3;

/** Owns a context of the library. */
template <auto Create, auto Free>
struct ZstdContext {
  void* context = (zstd().*Create)();
  ~ZstdContext() { (zstd().*Free)(context); }
};

bool decompressFrame(std::span<const uint8_t> source, std::span<uint8_t> target) {
  thread_local ZstdContext<&Zstd::createDecompressor, &Zstd::freeDecompressor> decompressor;
  if (decompressor.context == nullptr) return false;
  // What follows the frame in the last sector would pass for damage.
  const size_t length = zstd().findFrameCompressedSize(source.data(), source.size());
  if (zstd().isError(length) != 0) return false;
  const size_t written =
      zstd().decompress(decompressor.context, target.data(), target.size(), source.data(), length);
  return zstd().isError(written) == 0 && written == target.size();
}

size_t compressFrame(int level, std::span<const uint8_t> source, std::span<uint8_t> target) {
  thread_local ZstdContext<&Zstd::createCompressor, &Zstd::freeCompressor> compressor;
  if (compressor.context == nullptr) return 0;
  const size_t written = zstd().compress(compressor.context, target.data(), target.size(), source.data(),
                                         source.size(), level == 0 ? DEFAULT_ZSTD_LEVEL : level);
  return zstd().isError(written) != 0 ? 0 : written;
}

}  // namespace

bool available(CompressionType type) { return type == CompressionType::Zstd ? zstd().found : hasZlib(); }

bool decompress(CompressionType type, std::span<const uint8_t> source, std::span<uint8_t> target) {
  return type == CompressionType::Zstd ? decompressFrame(source, target) : inflateCluster(source, target);
}

size_t compress(CompressionType type, int level, std::span<const uint8_t> source, std::span<uint8_t> target) {
  return type == CompressionType::Zstd ? compressFrame(level, source, target) : deflateCluster(level, source, target);
}

}  // namespace corral::clusterCodec
