#include "crypto/secret_key.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <algorithm>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/cipher_internal.h"
#include "crypto/digest.h"
#include "crypto/sealer.h"

namespace holdfast::crypto {

namespace {

constexpr std::uint64_t kMostMemory = 256ULL << 20;
constexpr std::uint64_t kLeastN = 1ULL << 14;
constexpr std::uint32_t kMostP = 16;

}  // namespace

SecretKey::SecretKey(ByteView bytes) {
  HF_ASSERT(bytes.size() == kBytes);
  std::ranges::copy(bytes, key_.begin());
}

SecretKey::~SecretKey() { OPENSSL_cleanse(key_.data(), key_.size()); }

SecretKey SecretKey::random() {
  Bytes bytes = random_bytes(kBytes);
  SecretKey key(bytes);
  wipe(bytes);
  return key;
}

bool SecretKey::equals(const SecretKey& other) const {
  return CRYPTO_memcmp(key_.data(), other.key_.data(), key_.size()) == 0;
}

SecretKey derive_key(const SecretKey& key, ByteView salt, std::string_view info) {
  Sha256 extracted = hmac_sha256(salt, key.bytes());
  Bytes message(as_bytes(info).begin(), as_bytes(info).end());
  message.push_back(std::byte{1});
  Sha256 expanded = hmac_sha256(extracted, message);
  SecretKey derived(expanded);
  wipe(extracted);
  wipe(expanded);
  return derived;
}

bool ScryptCost::acceptable() const {
  return n >= kLeastN && (n & (n - 1)) == 0 && r >= 8 && p >= 1 && p <= kMostP &&
         n <= kMostMemory / 128 && r <= kMostMemory / 128 / n;
}

SecretKey stretch_passphrase(std::string_view passphrase, ByteView salt, const ScryptCost& cost) {
  if (!cost.acceptable()) {
    throw Error(sqlstate::kInvalidParameterValue,
                fmt::format("cannot use scrypt with n={}, r={}, p={}", cost.n, cost.r, cost.p))
        .detail("It would be too cheap, or take too much memory.");
  }
  std::array<std::byte, SecretKey::kBytes> bytes;
  // OpenSSL counts a little more than the 128 * n * r bytes of the definition.
  if (EVP_PBE_scrypt(passphrase.data(), passphrase.size(), raw(salt.data()), salt.size(), cost.n,
                     cost.r, cost.p, 2 * kMostMemory, raw(bytes.data()), bytes.size()) != 1) {
    ERR_clear_error();
    throw Error(sqlstate::kOutOfMemory, "could not derive a key from the passphrase")
        .hint(fmt::format("It takes {} MiB of memory.", cost.n * cost.r * 128 >> 20));
  }
  SecretKey key(bytes);
  wipe(bytes);
  return key;
}

void wipe(MutableByteView bytes) { OPENSSL_cleanse(bytes.data(), bytes.size()); }
void wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

}  // namespace holdfast::crypto
