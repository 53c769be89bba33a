#pragma once

#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// Check constraints of tables and domains run users' functions for each row that comes in, with
/// the rights of whoever writes: holdfast's. The rows fulfilled them where they come from, so that
/// they need not run at all.
class DeferredChecks {
 public:
  /// In the workshop, before pg_dump: makes all of them look as if they had not been validated.
  /// Those come after the rows, and are made without a look at them.
  DeferredChecks(const ObjectRestoreRun& run, postgres::Connection& workshop);

  /// Says of those in the target's `schemas` (all for none) that they are valid, as they were.
  void settle(postgres::Connection& target, const std::vector<std::string>& schemas) const;

 private:
  struct Constraint {
    std::string of;  ///< the table or domain
    std::string name;
  };
  const ObjectRestoreRun& run_;
  std::vector<Constraint> not_valid_;  ///< before this
};

}  // namespace holdfast::restore
