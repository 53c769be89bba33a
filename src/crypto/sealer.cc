#include "crypto/sealer.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <string>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/cipher_internal.h"

namespace holdfast::crypto {

namespace {

constexpr std::byte kVersion{1};
constexpr std::size_t kHeaderBytes = 1 + kNonceBytes;

/// What the tag vouches for beside the text: the version and the place.
std::string associated_data(std::string_view place) {
  return std::string(1, std::to_integer<char>(kVersion)).append(place);
}

Error not_ours(std::string_view place) {
  return Error(sqlstate::kDataCorrupted, fmt::format("could not decrypt {}", place))
      .detail("It was changed, moved from another place, or encrypted with another key.");
}

}  // namespace

void require(bool worked, std::string_view action) {
  if (!worked) {
    throw Error(sqlstate::kInternalError, fmt::format("could not {}: OpenSSL refused", action));
  }
}

Sealer::Sealer(ByteView key) {
  HF_ASSERT(key.size() == kKeyBytes);
  std::ranges::copy(key, key_.begin());
}

Sealer::~Sealer() { OPENSSL_cleanse(key_.data(), key_.size()); }

Bytes Sealer::seal(ByteView plain, std::string_view place) const {
  Bytes sealed(kHeaderBytes + plain.size() + kTagBytes);
  sealed[0] = kVersion;
  std::ranges::copy(random_bytes(kNonceBytes), sealed.begin() + 1);
  const std::string bound = associated_data(place);
  const CipherContext context(EVP_CIPHER_CTX_new());
  int done = 0;
  require(context != nullptr &&
          EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, raw(key_.data()),
                             raw(sealed.data() + 1)) == 1 &&
          EVP_EncryptUpdate(context.get(), nullptr, &done, raw(as_bytes(bound).data()),
                            size_of(bound.size())) == 1 &&
          EVP_EncryptUpdate(context.get(), raw(sealed.data() + kHeaderBytes), &done,
                            raw(plain.data()), size_of(plain.size())) == 1 &&
          EVP_EncryptFinal_ex(context.get(), raw(sealed.data() + kHeaderBytes + plain.size()),
                              &done) == 1 &&
          EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, size_of(kTagBytes),
                              sealed.data() + kHeaderBytes + plain.size()) == 1);
  return sealed;
}

Bytes Sealer::open(ByteView sealed, std::string_view place) const {
  if (!sealed.empty() && sealed[0] != kVersion) {
    throw Error(sqlstate::kFeatureNotSupported,
                fmt::format("{} is encrypted in a way that this holdfast does not know (version "
                            "{})",
                            place, std::to_integer<int>(sealed[0])));
  }
  if (sealed.size() < kHeaderBytes + kTagBytes) throw not_ours(place);
  Bytes plain(sealed.size() - kHeaderBytes - kTagBytes);
  // OpenSSL takes the tag as a pointer to what it could change.
  Bytes tag(sealed.end() - kTagBytes, sealed.end());
  const std::string bound = associated_data(place);
  const CipherContext context(EVP_CIPHER_CTX_new());
  int done = 0;
  require(context != nullptr &&
          EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, raw(key_.data()),
                             raw(sealed.data() + 1)) == 1 &&
          EVP_DecryptUpdate(context.get(), nullptr, &done, raw(as_bytes(bound).data()),
                            size_of(bound.size())) == 1 &&
          EVP_DecryptUpdate(context.get(), raw(plain.data()), &done,
                            raw(sealed.data() + kHeaderBytes), size_of(plain.size())) == 1 &&
          EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, size_of(kTagBytes),
                              tag.data()) == 1);
  if (EVP_DecryptFinal_ex(context.get(), raw(plain.data() + plain.size()), &done) != 1) {
    OPENSSL_cleanse(plain.data(), plain.size());
    throw not_ours(place);
  }
  return plain;
}

Bytes random_bytes(std::size_t count) {
  Bytes bytes(count);
  if (RAND_bytes(raw(bytes.data()), size_of(count)) != 1) {
    throw Error(sqlstate::kSystemError, "could not get random bytes from the system");
  }
  return bytes;
}

}  // namespace holdfast::crypto
