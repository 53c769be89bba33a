#include "crypto/rsa.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>

#include "base/error.h"

namespace holdfast::crypto {

Bytes sign_rs256(std::string_view private_key_pem, ByteView message) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> input(
      BIO_new_mem_buf(private_key_pem.data(), static_cast<int>(private_key_pem.size())), BIO_free);
  // Without a password callback OpenSSL would ask for one on the terminal.
  const auto no_password = [](char*, int, int, void*) { return 0; };
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      input ? PEM_read_bio_PrivateKey(input.get(), nullptr, no_password, nullptr) : nullptr,
      EVP_PKEY_free);
  if (!key || EVP_PKEY_base_id(key.get()) != EVP_PKEY_RSA) {
    ERR_clear_error();
    throw Error(sqlstate::kInvalidParameterValue, "the private key is not an RSA key in PEM form");
  }
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  Bytes signature(static_cast<std::size_t>(EVP_PKEY_size(key.get())));
  std::size_t length = signature.size();
  if (!context ||
      EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &length,
                     reinterpret_cast<const unsigned char*>(message.data()), message.size()) != 1) {
    ERR_clear_error();
    throw Error(sqlstate::kInternalError, "could not sign with the private key");
  }
  signature.resize(length);
  return signature;
}

}  // namespace holdfast::crypto
