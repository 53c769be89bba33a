#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "base/bytes.h"

namespace holdfast::crypto {

/// Encrypts single values, such as the columns of a database's rows, with AES-256-GCM. A sealed
/// value can be opened only with the same key and for the same `place`, so a value that somebody
/// copied into another row or column is refused like one that was changed.
///
/// Sealed: one byte of version (1), 12 bytes of random nonce, the ciphertext, 16 bytes of tag. With
/// random nonces one key is good for 2^32 values. Source: NIST SP 800-38D, section 8.3.
///
/// Thread-safe.
class Sealer {
 public:
  static constexpr std::size_t kKeyBytes = 32;

  /// `key` has kKeyBytes bytes.
  explicit Sealer(ByteView key);
  /// Wipes the key from memory.
  ~Sealer();
  Sealer(const Sealer&) = delete;
  Sealer& operator=(const Sealer&) = delete;

  Bytes seal(ByteView plain, std::string_view place) const;
  /// Throws kDataCorrupted when `sealed` was not made by seal() for this key and place, and
  /// kFeatureNotSupported for a version that is not known.
  Bytes open(ByteView sealed, std::string_view place) const;

 private:
  std::array<std::byte, kKeyBytes> key_;
};

/// Fit for keys. Throws kSystemError when the system has none.
Bytes random_bytes(std::size_t count);

}  // namespace holdfast::crypto
