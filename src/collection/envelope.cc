#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>

#include "base/error.h"
#include "collection/encryption.h"
#include "collection/envelope_internal.h"
#include "collection/format.h"
#include "collection/frame.h"
#include "collection/hash_internal.h"
#include "crypto/sealed_stream.h"

namespace holdfast::collection {

namespace {

// Offsets in the envelope's header.
constexpr std::size_t kEnvelopeVersionAt = 8;
constexpr std::size_t kEnvelopeFlagsAt = 12;
constexpr std::size_t kEnvelopePlainBytesAt = 16;
constexpr std::size_t kEnvelopeStoredBytesAt = 24;
constexpr std::size_t kHashAt = 32;

/// Metadata is small and read often: a level that packs well.
constexpr int kLevel = 3;

/// A zstd block unpacks to at most 128 KiB and takes at least four bytes. Source: RFC 8878,
/// section 3.1.1.2.
constexpr std::uint64_t kHighestRatio = 32768;

}  // namespace

Bytes compress_block(ByteView plain) {
  Bytes stored(ZSTD_compressBound(plain.size()));
  const std::size_t used =
      ZSTD_compress(stored.data(), stored.size(), plain.data(), plain.size(), kLevel);
  if (ZSTD_isError(used) != 0) {
    throw Error(sqlstate::kInternalError,
                fmt::format("could not compress: {}", ZSTD_getErrorName(used)));
  }
  stored.resize(used);
  return stored;
}

std::optional<Bytes> decompress_block(ByteView stored, std::uint64_t plain_bytes) {
  if (plain_bytes / kHighestRatio > stored.size()) return std::nullopt;
  if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != plain_bytes) return std::nullopt;
  Bytes plain(plain_bytes);
  const std::size_t got = ZSTD_decompress(plain.data(), plain.size(), stored.data(), stored.size());
  if (ZSTD_isError(got) != 0 || got != plain.size()) return std::nullopt;
  return plain;
}

Bytes seal_envelope(ByteView plain, std::uint32_t version) {
  const Bytes payload = compress_block(plain);
  Bytes sealed(kEnvelopeHeaderBytes + payload.size());
  const MutableByteView header(sealed.data(), kEnvelopeHeaderBytes);
  std::copy_n(as_bytes(kEnvelopeMagic).begin(), kEnvelopeMagic.size(), header.begin());
  store<std::uint32_t>(header, kEnvelopeVersionAt, version);
  store<std::uint32_t>(header, kEnvelopeFlagsAt, 0);
  store<std::uint64_t>(header, kEnvelopePlainBytesAt, plain.size());
  store<std::uint64_t>(header, kEnvelopeStoredBytesAt, payload.size());
  const auto hash = to_bytes(hash128(ByteView(header).first(kHashAt), payload));
  std::copy(hash.begin(), hash.end(), header.begin() + kHashAt);
  std::copy(payload.begin(), payload.end(), sealed.begin() + kEnvelopeHeaderBytes);
  return sealed;
}

Bytes open_envelope(ByteView stored, std::string_view object) {
  const auto corrupt = [&](std::string_view why) {
    return Error(sqlstate::kDataCorrupted, fmt::format("\"{}\" is corrupt", object))
        .detail(std::string(why));
  };
  if (as_text(stored).starts_with(crypto::kSealedMagic)) throw needs_key(object);
  if (stored.size() < kEnvelopeHeaderBytes) throw corrupt("It is too short.");
  if (as_text(stored.first(kEnvelopeMagic.size())) != kEnvelopeMagic) {
    throw corrupt("It does not begin as holdfast's metadata does.");
  }
  // First: everything after it may lie elsewhere in a newer version.
  check_version(load<std::uint32_t>(stored, kEnvelopeVersionAt), object);
  const ByteView payload = stored.subspan(kEnvelopeHeaderBytes);
  if (hash128(stored.first(kHashAt), payload) != hash_from_bytes(stored.subspan(kHashAt, 16))) {
    throw corrupt("Its checksum does not match.");
  }
  const std::uint64_t plain_bytes = load<std::uint64_t>(stored, kEnvelopePlainBytesAt);
  if (load<std::uint32_t>(stored, kEnvelopeFlagsAt) != 0 ||
      load<std::uint64_t>(stored, kEnvelopeStoredBytesAt) != payload.size() ||
      plain_bytes > most_plain_bytes(payload.size())) {
    throw corrupt("Its lengths do not agree.");
  }
  std::optional<Bytes> plain = decompress_block(payload, plain_bytes);
  if (!plain) throw corrupt("It cannot be unpacked.");
  return std::move(*plain);
}

std::uint64_t claimed_bytes(ByteView stored) {
  return stored.size() < kEnvelopeHeaderBytes ? 0
                                              : load<std::uint64_t>(stored, kEnvelopePlainBytesAt);
}

std::uint64_t most_plain_bytes(std::uint64_t stored_bytes) {
  // Dividing first: stored_bytes may be any number.
  if (stored_bytes > kMaxManifestBytes / kHighestManifestRatio) return kMaxManifestBytes;
  return std::max(kSmallManifestBytes, stored_bytes * kHighestManifestRatio);
}

void check_version(std::uint32_t version, std::string_view object) {
  if (version > kFormatVersion) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("\"{}\" has format version {}, which is newer than this holdfast",
                            object, version))
        .detail(fmt::format("This holdfast reads format versions up to {}.", kFormatVersion))
        .hint("Use the holdfast that wrote it, or a newer one.");
  }
  if (version == 0) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("\"{}\" is corrupt", object))
        .detail("It has format version 0, which never existed.");
  }
}

}  // namespace holdfast::collection
