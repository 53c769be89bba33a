#include "crypto/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/error.h"

namespace holdfast::crypto {

namespace {

template <std::size_t size>
std::array<std::byte, size> digest(const EVP_MD* algorithm, ByteView bytes) {
  std::array<std::byte, size> result;
  unsigned length = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(result.data()),
                 &length, algorithm, nullptr) != 1 ||
      length != size) {
    throw Error(sqlstate::kInternalError, "could not compute a digest");
  }
  return result;
}

}  // namespace

Sha256 sha256(ByteView bytes) { return digest<32>(EVP_sha256(), bytes); }

Md5 md5(ByteView bytes) { return digest<16>(EVP_md5(), bytes); }

Sha256 hmac_sha256(ByteView key, ByteView message) {
  Sha256 result;
  unsigned length = 0;
  // A null key means "the one before" to OpenSSL, also when it is empty.
  static constexpr unsigned char kEmpty = 0;
  const void* key_data = key.empty() ? &kEmpty : static_cast<const void*>(key.data());
  if (HMAC(EVP_sha256(), key_data, static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(message.data()), message.size(),
           reinterpret_cast<unsigned char*>(result.data()), &length) == nullptr ||
      length != result.size()) {
    throw Error(sqlstate::kInternalError, "could not compute a message authentication code");
  }
  return result;
}

}  // namespace holdfast::crypto
