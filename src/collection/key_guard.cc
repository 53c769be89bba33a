#include "collection/key_guard.h"

#include "crypto/sealer.h"

namespace holdfast::collection {

namespace {

constexpr std::size_t kSaltBytes = 32;

}  // namespace

PassphraseGuard::PassphraseGuard(std::string passphrase) : passphrase_(std::move(passphrase)) {
  if (passphrase_.empty()) {
    throw Error(sqlstate::kInvalidParameterValue, "encryption_passphrase must not be empty");
  }
}

PassphraseGuard::~PassphraseGuard() { crypto::wipe(passphrase_); }

crypto::SecretKey PassphraseGuard::stretched(const proto::Scrypt& scrypt) {
  const std::tuple name(scrypt.salt(), scrypt.n(), scrypt.r(), scrypt.p());
  const auto found = stretched_.find(name);
  if (found != stretched_.end()) return found->second;
  auto key = crypto::stretch_passphrase(passphrase_, as_bytes(scrypt.salt()),
                                        {.n = scrypt.n(), .r = scrypt.r(), .p = scrypt.p()});
  return stretched_.emplace(name, key).first->second;
}

void PassphraseGuard::wrap(const crypto::SecretKey& key, std::string_view place,
                           proto::EncryptionInfo& info, const Stop& /*stop*/) {
  if (!proven_) {
    const crypto::ScryptCost cost;
    proven_.emplace();
    proven_->set_salt(std::string(as_text(crypto::random_bytes(kSaltBytes))));
    proven_->set_n(cost.n);
    proven_->set_r(cost.r);
    proven_->set_p(cost.p);
  }
  auto& wrapped = *info.add_keys();
  *wrapped.mutable_scrypt() = *proven_;
  const crypto::Sealer sealer(stretched(*proven_).bytes());
  wrapped.set_wrapped(std::string(as_text(sealer.seal(key.bytes(), place))));
}

std::optional<crypto::SecretKey> PassphraseGuard::unwrap(const proto::EncryptionInfo& info,
                                                         std::string_view place, const Stop& stop) {
  bool impossible = false;
  for (const auto& wrapped : info.keys()) {
    if (!wrapped.has_scrypt()) continue;
    stop.check();
    const auto& scrypt = wrapped.scrypt();
    if (!crypto::ScryptCost{.n = scrypt.n(), .r = scrypt.r(), .p = scrypt.p()}.acceptable()) {
      // Somebody may have added it to keep the others, behind it, from being tried.
      impossible = true;
      continue;
    }
    try {
      Bytes plain =
          crypto::Sealer(stretched(scrypt).bytes()).open(as_bytes(wrapped.wrapped()), place);
      if (plain.size() != crypto::SecretKey::kBytes) continue;
      const crypto::SecretKey key(plain);
      crypto::wipe(plain);
      proven_ = scrypt;
      return key;
    } catch (const Error& error) {
      // Another passphrase's.
      if (error.state() != sqlstate::kDataCorrupted) throw;
    }
  }
  if (impossible) {
    throw Error(sqlstate::kDataCorrupted, "the encryption information is corrupt")
        .detail("It asks for an impossible effort to derive the key.");
  }
  return std::nullopt;
}

Error PassphraseGuard::refused() const {
  // CockroachDB's words (reference, section 4.4).
  return Error(sqlstate::kInvalidParameterValue, "failed to decrypt — maybe incorrect key")
      .detail("The passphrase is not the one that it was encrypted with.");
}

}  // namespace holdfast::collection
