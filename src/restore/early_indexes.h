#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/stop.h"
#include "base/task_queue.h"
#include "postgres/connection.h"
#include "restore/dump_tools.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

struct TableRows;

/// Indexes that are built as soon as the rows of their table are there, while those of others are
/// still on their way: primary keys, unique constraints and plain indexes of large tables, as far
/// as they are made of nothing but what PostgreSQL itself brings. Everything else comes after all
/// rows, in pg_restore's order. The tables belong to the builder already (handover.h).
class EarlyIndexes {
 public:
  /// After pg_dump. `database`: where they are built.
  EarlyIndexes(const ObjectRestoreRun& run, postgres::Connection& workshop, DumpRequest dump,
               std::string database, const std::vector<TableRows>& tables);

  /// Bytes of the indexes that wait for this table (by its place in `tables`), as far as known.
  std::uint64_t bytes(std::size_t table) const;
  /// Its rows are there. The queue's tasks must not outlive this object.
  void add_to(TaskQueue& queue, std::size_t table) const;

  /// Builds what else comes after the rows.
  void restore_rest() const;

 private:
  struct Index {
    std::string entry;  ///< a line of the dump's list
    std::uint64_t bytes = 0;
  };
  struct OfTable {
    std::vector<Index> constraints;  ///< each locks the table against the others
    std::vector<Index> indexes;
  };
  void add_constraint(TaskQueue& queue, std::size_t table, std::size_t number) const;
  void build(const Index& index, const Stop& stop) const;

  const ObjectRestoreRun& run_;
  DumpRequest dump_;
  std::string database_;
  std::vector<OfTable> tables_;
  bool any_ = false;
  std::string rest_;  ///< where there are any: the list of what else comes after the rows
};

}  // namespace holdfast::restore
