#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace holdfast::crypto {

/// A key of 256 bits. Wiped from memory when it goes.
class SecretKey {
 public:
  static constexpr std::size_t kBytes = 32;

  /// `bytes` has kBytes bytes.
  explicit SecretKey(ByteView bytes);
  ~SecretKey();
  SecretKey(const SecretKey&) = default;
  SecretKey& operator=(const SecretKey&) = default;

  /// From the system's source of randomness. Throws kSystemError when it has none.
  static SecretKey random();

  ByteView bytes() const { return key_; }
  /// Takes the same time for every other key.
  bool equals(const SecretKey& other) const;

 private:
  std::array<std::byte, kBytes> key_;
};

/// HKDF with SHA-256, for one key of 256 bits. Source: RFC 5869.
SecretKey derive_key(const SecretKey& key, ByteView salt, std::string_view info);

/// What scrypt costs: memory of 128 * n * r bytes.
struct ScryptCost {
  std::uint64_t n = 1ULL << 15;  ///< a power of two
  std::uint32_t r = 8;
  std::uint32_t p = 1;

  /// Whether it is one that this build is ready to pay: at most 256 MiB, and not so cheap that
  /// passphrases could be tried by the billion.
  bool acceptable() const;
};

/// A key from a passphrase. Source: RFC 7914. Throws kInvalidParameterValue for a cost that is not
/// acceptable(), kOutOfMemory.
SecretKey stretch_passphrase(std::string_view passphrase, ByteView salt, const ScryptCost& cost);

/// Overwrites what a secret left in memory.
void wipe(MutableByteView bytes);
void wipe(std::string& text);

}  // namespace holdfast::crypto
