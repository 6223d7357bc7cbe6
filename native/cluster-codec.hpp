// One compressed cluster: raw deflate by the zlib that is part of Node, zstd by the system's libzstd where there is one.
//
// Neither is linked: which of them can be had is found out when the addon is loaded. Every thread has contexts of its own,
// which live as long as it does.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace corral {

/** Compression types of the image's header. */
enum class CompressionType : int32_t { Zlib = 0, Zstd = 1 };

namespace clusterCodec {

/** Whether this type can be had here. */
bool available(CompressionType type);

/**
 * Decompresses exactly `target`. `source` may go on behind the end of the compressed data.
 *
 * @return false when the data are damaged, or decompress to another size
 */
bool decompress(CompressionType type, std::span<const uint8_t> source, std::span<uint8_t> target);

/**
 * Compresses into one stream or frame that every reader of qcow2 follows: distances up to 4 KiB for zlib.
 *
 * @param level of the library; 0 for its default
 * @return bytes of `target` that were used; 0 when it is too small, or memory cannot be had
 */
size_t compress(CompressionType type, int level, std::span<const uint8_t> source, std::span<uint8_t> target);

}  // namespace clusterCodec

}  // namespace corral
