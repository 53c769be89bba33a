#pragma once

#include <map>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/copy_tables.h"
#include "restore/object_restore.h"
#include "restore/table_preparation.h"
#include "restore/workshop.h"

namespace holdfast::restore {

/// The condition of option where: which rows of a table are brought back. PostgreSQL evaluates it
/// in the workshop, and there it is somebody's text next to anybody's functions, in a server that
/// runs as the daemon's own OS user. So it becomes the condition of a view (for each table that
/// holds rows), which a role reads that logs in, owns nothing but these views, and may execute
/// only what PostgreSQL itself lets everybody execute, but for what takes a query as text, and what
/// extensions have in C without side effects: no function of a user's, whoever it runs as. What a
/// role without rights could reach in spite of that is out of order (lock_down).
class RowFilter {
 public:
  RowFilter(const ObjectRestoreRun& run, const Workshop& workshop, std::string database)
      : run_(run), workshop_(workshop), database_(std::move(database)) {}

  /// To be called after each start of the workshop, while everything has the names that it had: the
  /// condition is in their terms. `superuser` is connected to the database. Throws what is wrong
  /// with the condition, with what to do about it.
  void define(postgres::Connection& superuser, const TableSet& tables);
  /// Gives the role its right to read these tables; once their definitions were dumped.
  void allow(postgres::Connection& superuser, const TableSet& tables) const;
  /// Lets rows come from the views.
  CopyRequest apply(CopyRequest request) const;

 private:
  /// A table that holds rows: the one that was named, or a partition of it.
  struct Source {
    std::string oid;
    std::string table;  ///< qualified and quoted
    bool columns = true;
  };

  void make_role(postgres::Connection& superuser) const;
  void create_views(const std::vector<Source>& sources) const;
  void check_parts(postgres::Connection& superuser, const TableSet& tables) const;
  std::string view(const std::string& oid) const;
  postgres::ConnectOptions connect() const;
  std::string column_names(postgres::Connection& superuser, const Source& source) const;

  const ObjectRestoreRun& run_;
  const Workshop& workshop_;
  std::string database_;
  std::string path_;   ///< for names in the condition
  std::string table_;  ///< as it was named
  std::string hint_;
};

}  // namespace holdfast::restore
