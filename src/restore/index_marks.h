#pragma once

#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// CLUSTER ON and REPLICA IDENTITY USING INDEX. pg_restore gives them to a table in the transaction
/// that makes the index, with a stronger lock than that took: two indexes of one table that are
/// made at once then deadlock. So they stay out of the dump, and are given at the end.
class IndexMarks {
 public:
  /// Takes them off in the workshop's `schemas` (all for none), before the dump.
  IndexMarks(const ObjectRestoreRun& run, postgres::Connection& workshop,
             const std::vector<std::string>& schemas);
  /// Gives them to the tables of the target; once the indexes are there.
  void settle(postgres::Connection& target) const;

 private:
  const ObjectRestoreRun& run_;
  std::vector<std::string> statements_;
};

}  // namespace holdfast::restore
