#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "crypto/secret_key.h"

/// Objects encrypted as one stream of chunks, so that any part of one can be read and checked
/// without the rest. docs/formats/encryption.md has the bytes. Source: Hoang, Reyhanitabar,
/// Rogaway, Vizár, "Online authenticated-encryption and its nonce-reuse misuse-resistance" (CRYPTO
/// 2015), section 7 (STREAM).
namespace holdfast::crypto {

inline constexpr std::string_view kSealedMagic = "HFSEAL\r\n";
inline constexpr std::size_t kSealedHeaderBytes = 64;
inline constexpr std::uint64_t kSealedChunkBytes = 64ULL << 10;
/// Chunks are counted in 32 bits.
inline constexpr std::uint64_t kMaxStreamBytes = kSealedChunkBytes << 32;

/// The size of `plain_bytes` (at most kMaxStreamBytes) sealed.
std::uint64_t sealed_size(std::uint64_t plain_bytes);
/// Absent when no sealed object has this size.
std::optional<std::uint64_t> plain_size(std::uint64_t sealed_bytes);

/// Encrypts `plain` into `sealed`, which has sealed_size() bytes, with a key of its own that
/// follows from `data_key`, `place` and a random salt. It opens only with the same key for the same
/// place.
void seal_stream(const SecretKey& data_key, std::string_view place, ByteView plain,
                 MutableByteView sealed);

/// Reads one sealed object, in parts. Thread-safe.
class SealedStream {
 public:
  /// Where bytes lie in the sealed object.
  struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };

  /// `header` is the first kSealedHeaderBytes of the object; `object` names it in errors. Nothing
  /// is known to be true before open() returned. Throws kDataCorrupted when it is no header of a
  /// sealed object, kFeatureNotSupported for a newer version.
  SealedStream(const SecretKey& data_key, std::string_view place, ByteView header,
               std::string object);

  std::uint64_t plain_bytes() const { return plain_bytes_; }

  /// The chunks that hold `length` plain bytes from `offset` on, which lie inside the object. Of an
  /// empty range the chunk at `offset`.
  Extent chunks_of(std::uint64_t offset, std::uint64_t length) const;

  /// Decrypts `chunks`, the bytes of chunks_of(offset, into.size()), into `into`. Throws
  /// kDataCorrupted when any was changed, moved or cut; `into` is undefined then.
  void open(std::uint64_t offset, ByteView chunks, MutableByteView into) const;

 private:
  std::uint64_t chunk_count() const;
  std::uint64_t plain_bytes_of(std::uint64_t chunk) const;

  std::string object_;
  std::uint64_t plain_bytes_ = 0;
  SecretKey key_;
};

}  // namespace holdfast::crypto
