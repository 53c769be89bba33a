#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collection/key_guard.h"
#include "storage/kms.h"

namespace holdfast::collection {

/// Data keys under keys of key management services: each of them opens them. Used by one thread.
class KmsGuard final : public KeyGuard {
 public:
  /// `keys` is not empty.
  explicit KmsGuard(std::vector<std::unique_ptr<storage::KmsKey>> keys) : keys_(std::move(keys)) {}

  /// All services must answer, and give back what they encrypted.
  void wrap(const crypto::SecretKey& key, std::string_view place, proto::EncryptionInfo& info,
            const Stop& stop) override;
  /// The first service that answers is enough. Throws its failure when none does.
  std::optional<crypto::SecretKey> unwrap(const proto::EncryptionInfo& info, std::string_view place,
                                          const Stop& stop) override;
  Error refused() const override;
  Error refused_to_add() const override;

 private:
  const std::vector<std::unique_ptr<storage::KmsKey>> keys_;
};

}  // namespace holdfast::collection
