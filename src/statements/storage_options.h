#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "sql/options.h"
#include "sql/statement_runner.h"
#include "storage/store_access.h"

namespace holdfast::statements {

/// WITH object_lock = '…', retain_for = '…', as a job's specification keeps it.
struct LockOption {
  std::string mode;  ///< empty: none was asked for
  std::uint64_t retain_for_seconds = 0;

  storage::StoreAccess access() const;
};

/// Throws kInvalidParameterValue for one option without the other, and for values that are none.
LockOption lock_option(const sql::Options& options, sql::SessionContext& session);

/// WITH restore_from_versions_at = '…': a timestamp, or a negative interval before now. Absent when
/// it was not given. Throws kInvalidParameterValue.
std::optional<Time> versions_option(const sql::Options& options);

}  // namespace holdfast::statements
