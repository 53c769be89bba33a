#pragma once

#include <openssl/evp.h>

#include <cstddef>
#include <memory>
#include <string_view>

#include "base/bytes.h"

/// What the users of OpenSSL's ciphers here have in common.
namespace holdfast::crypto {

inline constexpr std::size_t kNonceBytes = 12;  // of AES-GCM
inline constexpr std::size_t kTagBytes = 16;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

inline unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
inline const unsigned char* raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}
/// OpenSSL counts in int; callers bound what they give.
inline int size_of(std::size_t size) { return static_cast<int>(size); }

/// Throws kInternalError, "could not `action`: OpenSSL refused", unless `worked`.
void require(bool worked, std::string_view action = "encrypt");

}  // namespace holdfast::crypto
