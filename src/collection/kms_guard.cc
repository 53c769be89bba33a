#include "collection/kms_guard.h"

#include <fmt/format.h>

#include "base/log.h"
#include "crypto/sealer.h"

namespace holdfast::collection {

using crypto::SecretKey;

namespace {

/// What `kms` opens of one entry. Throws when the service refuses.
std::optional<SecretKey> open(storage::KmsKey& kms, const proto::WrappedKey& wrapped,
                              std::string_view place, const Stop& stop) {
  Bytes master = kms.decrypt(as_bytes(wrapped.kms().encrypted()), stop);
  if (master.size() != SecretKey::kBytes) return std::nullopt;
  const crypto::Sealer sealer(master);
  crypto::wipe(master);
  Bytes plain = sealer.open(as_bytes(wrapped.wrapped()), place);
  if (plain.size() != SecretKey::kBytes) return std::nullopt;
  const SecretKey key(plain);
  crypto::wipe(plain);
  return key;
}

bool same_service(const std::string& stored, std::string_view scheme) {
  return stored.starts_with(scheme) && stored.substr(scheme.size()).starts_with("://");
}

}  // namespace

void KmsGuard::wrap(const SecretKey& key, std::string_view place, proto::EncryptionInfo& info,
                    const Stop& stop) {
  for (const auto& kms : keys_) {
    const SecretKey master = SecretKey::random();
    auto& wrapped = *info.add_keys();
    wrapped.set_wrapped(
        std::string(as_text(crypto::Sealer(master.bytes()).seal(key.bytes(), place))));
    wrapped.mutable_kms()->set_key(kms->id());
    try {
      wrapped.mutable_kms()->set_encrypted(
          std::string(as_text(kms->encrypt(master.bytes(), stop))));
      // A key that the service does not give back would be a backup that nobody can read.
      const auto opened = open(*kms, wrapped, place, stop);
      if (!opened || !opened->equals(key)) {
        throw Error(sqlstate::kDataCorrupted, "the service does not give back what it encrypted");
      }
    } catch (Error& error) {
      // CockroachDB's words (reference, section 4.4).
      throw error.at(fmt::format("failed to encrypt data key for KMS scheme {}", kms->scheme()));
    }
  }
}

std::optional<SecretKey> KmsGuard::unwrap(const proto::EncryptionInfo& info, std::string_view place,
                                          const Stop& stop) {
  std::optional<Error> failure;
  // By name first; an alias and an ARN may be names of one key.
  for (const bool by_name : {true, false}) {
    for (const auto& kms : keys_) {
      for (const auto& wrapped : info.keys()) {
        if (!wrapped.has_kms() || !same_service(wrapped.kms().key(), kms->scheme()) ||
            (wrapped.kms().key() == kms->id()) != by_name) {
          continue;
        }
        try {
          if (auto key = open(*kms, wrapped, place, stop)) return key;
        } catch (Error& error) {
          log::info("a KMS key does not open the data key: {}", error.message());
          // Why another name does not open it is no news: most likely it is another key.
          if (by_name && !failure) failure = error.at("failed to decrypt data key");
        }
      }
    }
  }
  if (failure) throw *failure;
  return std::nullopt;
}

Error KmsGuard::refused_to_add() const {
  // CockroachDB's words (reference, section 4.2).
  return Error(sqlstate::kInvalidParameterValue,
               "no key in OLD_KMS matches a key that was previously used to encrypt the backup")
      .detail(refused().detail());
}

Error KmsGuard::refused() const {
  std::string names;
  for (const auto& kms : keys_) names += (names.empty() ? "" : ", ") + kms->id();
  // CockroachDB's words (reference, section 4.2).
  return Error(sqlstate::kInvalidParameterValue,
               "one of the provided URIs was not used when encrypting the base BACKUP")
      .detail(fmt::format("Given was {}.", names));
}

}  // namespace holdfast::collection
