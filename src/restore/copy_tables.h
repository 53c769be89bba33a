#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

class EarlyIndexes;

/// A table whose rows are to be brought over. Names are quoted.
struct TableRows {
  std::string schema;     ///< not quoted: for messages
  std::string name;       ///< qualified, the same on both sides
  std::string columns;    ///< "(a, b)", without generated ones; empty for a table without columns
  std::string filter;     ///< "WHERE …" of an extension's configuration table
  std::string source;     ///< where to read them instead, qualified; empty: the table itself
  std::uint32_t oid = 0;  ///< in the workshop
  bool binary = false;    ///< the binary form means the same in both databases
  bool extension = false;
  std::uint64_t bytes = 0;  ///< with TOAST
};

/// The tables with storage in the workshop's database that `schemas` hold, largest first; for empty
/// `schemas` all of users' tables, and the configuration tables of extensions. Unlogged ones are
/// told in a notice and left out.
std::vector<TableRows> list_table_rows(const ObjectRestoreRun& run, postgres::Connection& workshop,
                                       const std::vector<std::string>& schemas);

struct CopyRequest {
  postgres::ConnectOptions source;
  postgres::ConnectOptions target;
  std::vector<TableRows> tables;
  /// Of these tables: built while rows of others are copied. Null: none.
  const EarlyIndexes* indexes = nullptr;
  /// Called on some thread when all rows are there, whatever indexes are not: the source is not
  /// read any more.
  std::function<void()> all_copied{};
};
/// Copies rows with several connections, each table in a transaction of its own that empties it
/// first. Gives the number of rows. With verify_data: reads and drops them.
std::int64_t copy_tables(const ObjectRestoreRun& run, const CopyRequest& request);

/// Gives the sequences of the target's `schemas` (all for none) the positions that they have in the
/// workshop.
void copy_sequences(const ObjectRestoreRun& run, postgres::Connection& workshop,
                    postgres::Connection& target, const std::vector<std::string>& schemas);

}  // namespace holdfast::restore
