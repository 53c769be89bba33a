#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>
#include <string>

namespace holdfast::crypto {

/// A new RSA key for tests.
struct RsaKey {
  RsaKey() : key(EVP_RSA_gen(2048), EVP_PKEY_free) {
    BIO* out = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    char* text = nullptr;
    const long length = BIO_get_mem_data(out, &text);
    pem.assign(text, static_cast<std::size_t>(length));
    BIO_free(out);
  }

  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key;
  std::string pem;
};

}  // namespace holdfast::crypto
