#include "statements/encryption.h"

#include <charconv>
#include <string>

#include "base/error.h"
#include "collection/kms_guard.h"

namespace holdfast::statements {

std::unique_ptr<collection::KeyGuard> key_guard(const sql::Options& options, Stores& stores,
                                                sql::SessionContext& session) {
  if (auto passphrase = options.text("encryption_passphrase")) {
    return std::make_unique<collection::PassphraseGuard>(std::move(*passphrase));
  }
  const std::vector<std::string> uris = options.uris("kms");
  return uris.empty() ? nullptr : kms_guard(uris, stores, session);
}

std::unique_ptr<collection::KeyGuard> kms_guard(const std::vector<std::string>& uris,
                                                Stores& stores, sql::SessionContext& session) {
  std::vector<std::unique_ptr<storage::KmsKey>> keys;
  for (const std::string& uri : uris) keys.push_back(open_kms_for_user(stores, uri, session));
  return std::make_unique<collection::KmsGuard>(std::move(keys));
}

std::uint64_t system_identifier(sql::SessionContext& session) {
  const auto result =
      session.query("SELECT s.system_identifier FROM pg_catalog.pg_control_system() AS s");
  if (result.rows.empty() || !result.rows[0].at(0)) {
    throw Error(sqlstate::kInternalError, "PostgreSQL does not say its system identifier");
  }
  const std::string& digits = *result.rows[0][0];
  // PostgreSQL shows it as a signed number.
  std::int64_t identifier = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), identifier);
  return static_cast<std::uint64_t>(identifier);
}

}  // namespace holdfast::statements
