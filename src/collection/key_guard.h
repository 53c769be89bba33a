#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "base/error.h"
#include "base/stop.h"
#include "crypto/secret_key.h"
#include "encryption.pb.h"

namespace holdfast::collection {

/// What the data keys of a collection are opened with: a passphrase, or keys of a key management
/// service.
class KeyGuard {
 public:
  virtual ~KeyGuard() = default;

  /// Adds to `info` what opens `key` again, bound to `place`.
  virtual void wrap(const crypto::SecretKey& key, std::string_view place,
                    proto::EncryptionInfo& info, const Stop& stop) = 0;
  /// Absent when nothing in `info` was made with this guard. Throws when the guard itself cannot be
  /// asked.
  virtual std::optional<crypto::SecretKey> unwrap(const proto::EncryptionInfo& info,
                                                  std::string_view place, const Stop& stop) = 0;
  /// For when unwrap() gave nothing.
  virtual Error refused() const = 0;
  /// The same where it was to let another guard in.
  virtual Error refused_to_add() const { return refused(); }
};

/// Data keys under a key that scrypt makes of a passphrase. Used by one thread.
class PassphraseGuard final : public KeyGuard {
 public:
  /// Throws kInvalidParameterValue when it is empty.
  explicit PassphraseGuard(std::string passphrase);
  ~PassphraseGuard() override;

  void wrap(const crypto::SecretKey& key, std::string_view place, proto::EncryptionInfo& info,
            const Stop& stop) override;
  std::optional<crypto::SecretKey> unwrap(const proto::EncryptionInfo& info, std::string_view place,
                                          const Stop& stop) override;
  Error refused() const override;

 private:
  crypto::SecretKey stretched(const proto::Scrypt& scrypt);

  std::string passphrase_;
  // scrypt is slow on purpose: what was made is kept, by salt and cost.
  std::map<std::tuple<std::string, std::uint64_t, std::uint32_t, std::uint32_t>, crypto::SecretKey>
      stretched_;
  // A salt that we made: at random, or it would not have opened anything. Used again.
  std::optional<proto::Scrypt> proven_;
};

}  // namespace holdfast::collection
