#pragma once

#include <memory>

#include "manifest.pb.h"
#include "postgres/connection.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// Tables of one database of the backup, into one database of the live server.
class TableRestore : public ObjectRestore {
 public:
  /// What finish() does, in a transaction of the caller's in the target database.
  virtual void finish_in(postgres::Connection& target) = 0;
  /// Tells what finish_in() did otherwise than one would expect; once it is committed.
  virtual void tell() = 0;
};
/// All tables of run.spec are of one database.
std::unique_ptr<TableRestore> make_restore_of_database_tables(
    const ObjectRestoreRun& run, const collection::proto::Manifest& manifest);

}  // namespace holdfast::restore
