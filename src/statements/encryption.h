#pragma once

#include <cstdint>
#include <memory>

#include "collection/key_guard.h"
#include "sql/options.h"
#include "sql/statement_runner.h"

namespace holdfast::statements {

/// What encryption_passphrase gives; null when it is absent. Throws kInvalidParameterValue for an
/// empty one.
std::unique_ptr<collection::KeyGuard> key_guard(const sql::Options& options);

/// The system identifier of the session's server.
std::uint64_t system_identifier(sql::SessionContext& session);

}  // namespace holdfast::statements
