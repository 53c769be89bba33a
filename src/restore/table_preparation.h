#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// Something that goes from a staging schema to its place at the end.
struct StagedObject {
  enum class Kind {
    Table,
    ForeignTable,
    Sequence,
    View,
    MaterializedView,
    Type,
    Domain,
    Statistics
  };
  Kind kind = Kind::Table;
  std::string schema;  ///< where it was
  std::string name;
  std::string oid;  ///< of relations, in the workshop
};

/// The tables of a restore in the workshop's database.
struct TableSet {
  std::string
      oids;  ///< "16390, 16400": tables, their partitions, sequences and views that were named
  std::vector<StagedObject> objects;
  std::map<std::string, std::string> staging;  ///< staging schemas by the schema they stand for
  /// A foreign key that is validated at the end: "ALTER TABLE …".
  struct Validation {
    std::string statement;
    bool own_rows = false;  ///< to the same table, of which a filter may have left out rows
  };
  std::vector<Validation> validations{};

  std::vector<std::string> staging_schemas() const;
};

/// Finds the tables that the patterns name, with the partitions of partitioned ones, of those that
/// the backup holds: `scope` says which, null that it holds all. Throws the reference's "failed to
/// resolve targets …" for a pattern without any, and kDataCorrupted when a partition of one that
/// the backup holds is not in it.
TableSet resolve_tables(const ObjectRestoreRun& run, postgres::Connection& workshop,
                        const collection::proto::ScopeDatabase* scope);

/// The files that reading these tables takes: a whole relation scope for Workshop::start().
postgres::WalScope::Relations files_of(const ObjectRestoreRun& run, postgres::Connection& workshop,
                                       const TableSet& tables);

/// Changes the workshop's catalogs so that the staging schemas hold the tables and what belongs to
/// them alone, and nothing in them needs what the live server lacks: pg_dump then writes just what
/// is to be made there. Throws the reference's errors for what is missing.
void prepare_tables(const ObjectRestoreRun& run, postgres::Connection& workshop,
                    postgres::Connection& live, TableSet& tables);

}  // namespace holdfast::restore
