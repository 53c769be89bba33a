#include "collection/frame.h"

#include <fmt/format.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/assert.h"
#include "base/error.h"
#include "collection/format.h"

namespace holdfast::collection {

namespace {

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

/// Ours, not the input's: a parameter that zstd refuses, or memory that is not there.
std::size_t check_zstd(std::size_t result) {
  if (ZSTD_isError(result) != 0) {
    throw Error(sqlstate::kInternalError,
                fmt::format("could not compress: {}", ZSTD_getErrorName(result)));
  }
  return result;
}

bool all_zero(ByteView bytes) {
  if (bytes.size() < 16) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
  }
  // Zero when the first eight bytes are, and each byte equals the one eight before it.
  return load<std::uint64_t>(bytes, 0) == 0 &&
         std::memcmp(bytes.data(), bytes.data() + 8, bytes.size() - 8) == 0;
}

}  // namespace

FrameBlocks leading_blocks(std::uint64_t bytes) {
  const std::uint64_t count = (bytes + kBlockBytes - 1) / kBlockBytes;
  if (count >= kFrameBlocks) return FrameBlocks().set();
  return ~(FrameBlocks().set() << count);
}

Compression Compression::parse(std::string_view text) {
  if (text == "none") return {.codec = Codec::None, .level = 0};
  if (text == "lz4") return {.codec = Codec::Lz4, .level = 0};
  if (text == "zstd") return {.codec = Codec::Zstd, .level = 1};
  if (text.starts_with("zstd:")) {
    const std::string_view digits = text.substr(5);
    int level = 0;
    const auto [end, problem] =
        std::from_chars(digits.data(), digits.data() + digits.size(), level);
    // Levels above 19 need much more memory on both sides. Source: zstd(1), --ultra.
    if (problem == std::errc() && end == digits.data() + digits.size() && level >= 1 &&
        level <= 19) {
      return {.codec = Codec::Zstd, .level = level};
    }
  }
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("invalid value for option \"compression\": \"{}\"", text))
      .hint("Use \"zstd\", \"zstd:1\" to \"zstd:19\", \"lz4\" or \"none\".");
}

std::string Compression::print() const {
  switch (codec) {
    case Codec::Zstd:
      return fmt::format("zstd:{}", level);
    case Codec::Lz4:
      return "lz4";
    default:
      return "none";
  }
}

struct FrameEncoder::State {
  Compression compression;
  std::unique_ptr<ZSTD_CCtx, FreeCompressor> zstd;
  Bytes lz4;
};

FrameEncoder::FrameEncoder(Compression compression) : state_(std::make_unique<State>()) {
  state_->compression = compression;
  if (compression.codec == Codec::Lz4)
    state_->lz4.resize(static_cast<std::size_t>(LZ4_sizeofState()));
  if (compression.codec != Codec::Zstd) return;
  state_->zstd.reset(ZSTD_createCCtx());
  if (!state_->zstd) throw Error(sqlstate::kOutOfMemory, "could not allocate memory for zstd");
  ZSTD_CCtx* context = state_->zstd.get();
  check_zstd(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, compression.level));
  if (compression.level == 1) {
    // A match table of 16 KiB stays in the processor's first cache. On PostgreSQL's pages this
    // costs 1.3 % of size and saves 5 to 9 % of time against the level's default (measured with
    // zstd 1.5.4; minMatch, targetLength and windowLog gain nothing at this size).
    check_zstd(ZSTD_CCtx_setParameter(context, ZSTD_c_hashLog, 12));
  }
  // The frame's XXH3 covers more and costs less.
  check_zstd(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 0));
}

FrameEncoder::~FrameEncoder() = default;
FrameEncoder::FrameEncoder(FrameEncoder&&) noexcept = default;

std::size_t FrameEncoder::bound(std::size_t plain_bytes) const {
  switch (state_->compression.codec) {
    case Codec::Zstd:
      return ZSTD_compressBound(plain_bytes);
    case Codec::Lz4:
      return static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(plain_bytes)));
    default:
      return plain_bytes;
  }
}

void FrameEncoder::encode(ByteView plain, MutableByteView out, FrameEntry& entry) {
  HF_ASSERT(!plain.empty() && plain.size() <= kFrameBytes && out.size() >= bound(plain.size()));
  entry.plain_bytes = static_cast<std::uint32_t>(plain.size());
  entry.hash = hash128(plain);
  if (all_zero(plain)) {
    entry.codec = Codec::Zero;
    entry.stored_bytes = 0;
    return;
  }
  std::size_t stored = plain.size();
  entry.codec = state_->compression.codec;
  if (entry.codec == Codec::Zstd) {
    // ZSTD_compress2 writes the plain size into its frame and fits the window to it.
    stored = check_zstd(
        ZSTD_compress2(state_->zstd.get(), out.data(), out.size(), plain.data(), plain.size()));
  } else if (entry.codec == Codec::Lz4) {
    stored = static_cast<std::size_t>(LZ4_compress_fast_extState(
        state_->lz4.data(), reinterpret_cast<const char*>(plain.data()),
        reinterpret_cast<char*>(out.data()), static_cast<int>(plain.size()),
        static_cast<int>(std::min<std::size_t>(out.size(), LZ4_COMPRESSBOUND(kFrameBytes))), 1));
    HF_ASSERT(stored > 0);
  }
  if (entry.codec == Codec::None || stored >= plain.size()) {
    entry.codec = Codec::None;
    std::copy(plain.begin(), plain.end(), out.begin());
    stored = plain.size();
  }
  entry.stored_bytes = static_cast<std::uint32_t>(stored);
}

struct FrameDecoder::State {
  std::unique_ptr<ZSTD_DCtx, FreeDecompressor> zstd;
};

FrameDecoder::FrameDecoder() : state_(std::make_unique<State>()) {
  state_->zstd.reset(ZSTD_createDCtx());
  if (!state_->zstd) throw Error(sqlstate::kOutOfMemory, "could not allocate memory for zstd");
}

FrameDecoder::~FrameDecoder() = default;
FrameDecoder::FrameDecoder(FrameDecoder&&) noexcept = default;

void FrameDecoder::decode(const FrameEntry& entry, ByteView stored, MutableByteView plain,
                          std::string_view object) {
  const auto corrupt = [&](std::string_view why) {
    return Error(sqlstate::kDataCorrupted, fmt::format("frame {} of file {} in \"{}\" is corrupt",
                                                       entry.frame, entry.file_id, object))
        .detail(std::string(why));
  };
  if (stored.size() != entry.stored_bytes || plain.size() != entry.plain_bytes ||
      plain.size() > kFrameBytes) {
    throw corrupt("Its lengths do not agree.");
  }
  switch (entry.codec) {
    case Codec::Zero:
      if (!stored.empty()) throw corrupt("Its lengths do not agree.");
      std::fill(plain.begin(), plain.end(), std::byte{0});
      break;
    case Codec::None:
      if (stored.size() != plain.size()) throw corrupt("Its lengths do not agree.");
      std::copy(stored.begin(), stored.end(), plain.begin());
      break;
    case Codec::Zstd: {
      const std::size_t got = ZSTD_decompressDCtx(state_->zstd.get(), plain.data(), plain.size(),
                                                  stored.data(), stored.size());
      if (ZSTD_isError(got) != 0 || got != plain.size()) throw corrupt("It cannot be unpacked.");
      break;
    }
    case Codec::Lz4: {
      const int got = LZ4_decompress_safe(
          reinterpret_cast<const char*>(stored.data()), reinterpret_cast<char*>(plain.data()),
          static_cast<int>(std::min<std::size_t>(stored.size(), LZ4_COMPRESSBOUND(kFrameBytes))),
          static_cast<int>(plain.size()));
      if (got < 0 || static_cast<std::size_t>(got) != plain.size()) {
        throw corrupt("It cannot be unpacked.");
      }
      break;
    }
    default:
      throw corrupt("Its compression method is not known.");
  }
  if (hash128(plain) != entry.hash) throw corrupt("Its checksum does not match.");
}

}  // namespace holdfast::collection
