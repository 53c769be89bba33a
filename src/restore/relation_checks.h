#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "jobs/job.h"
#include "restore/workshop.h"

namespace holdfast::restore {

/// What PostgreSQL's own checks say about a recovered backup.
struct RelationChecks {
  std::int64_t databases = 0;
  std::int64_t tables = 0;  ///< with TOAST tables, materialized views and the catalogs
  std::int64_t indexes = 0;
  std::int64_t unchecked = 0;  ///< relations with an access method that has no check
  std::int64_t bytes = 0;      ///< of those checked
  std::int64_t damaged = 0;
  std::vector<std::string> damage;  ///< of the first ten: relation, block, what is wrong
};

/// A database of a workshop of which there is only a part beside its catalogs.
struct CheckedDatabase {
  std::uint32_t oid = 0;
  /// By OID, with indexes and TOAST; none: the whole database is there. Beside them the catalogs
  /// are checked, but for those that a backup of tables leaves out.
  std::set<std::uint32_t> relations;
};

/// Checks all relations of all databases of a workshop (of `only`, unless that is empty) with the
/// functions of amcheck: every page of tables, and of B-tree indexes the order, the links, and that
/// each row is in it. `database` is one that the workshop answers in. Before version 14, which has
/// no check of tables, their rows are read.
///
/// Functions in the expressions of indexes run, in the workshop, as the table's owner. Where one
/// fails, the index is checked without its rows, and a notice tells.
///
/// Throws when something could not be checked: no room, a server that ended, amcheck missing.
RelationChecks check_relations(Workshop& workshop, const std::string& database,
                               const std::vector<CheckedDatabase>& only, std::size_t workers,
                               jobs::JobContext& job);

}  // namespace holdfast::restore
