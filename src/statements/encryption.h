#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "collection/key_guard.h"
#include "sql/options.h"
#include "sql/statement_runner.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// What encryption_passphrase or kms gives; null when both are absent. Throws
/// kInvalidParameterValue for an empty passphrase, and as open_kms_for_user() does.
std::unique_ptr<collection::KeyGuard> key_guard(const sql::Options& options, Stores& stores,
                                                sql::SessionContext& session);

/// What keys of key management services give.
std::unique_ptr<collection::KeyGuard> kms_guard(const std::vector<std::string>& uris,
                                                Stores& stores, sql::SessionContext& session);

/// The system identifier of the session's server.
std::uint64_t system_identifier(sql::SessionContext& session);

}  // namespace holdfast::statements
