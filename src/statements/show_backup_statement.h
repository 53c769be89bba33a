#pragma once

#include <cstddef>
#include <utility>

#include "manifest.pb.h"
#include "restore/definitions.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// SHOW BACKUPS IN: the finished full backups, oldest first.
class ShowBackupsStatement final : public Handler<sql::ShowBackups> {
 public:
  explicit ShowBackupsStatement(Stores& stores) : stores_(stores) {}
  void run(const sql::ShowBackups& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  Stores& stores_;
};

/// SHOW BACKUP [SCHEMAS | FILES | VALIDATE | WINDOWS] FROM … IN: what one backup holds, and whether
/// it is whole. SCHEMAS recovers the catalogs in a workshop, which is for administrators.
class ShowBackupStatement final : public Handler<sql::ShowBackup> {
 public:
  ShowBackupStatement(Stores& stores, restore::WorkshopServices workshops)
      : stores_(stores), workshops_(std::move(workshops)) {}
  void run(const sql::ShowBackup& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  /// How many rows it made.
  std::size_t show_layer(const sql::ShowBackup& statement, storage::ObjectStore& store,
                         const collection::proto::Manifest& layer, sql::RowSink& sink,
                         const Stop& stop);

  Stores& stores_;
  const restore::WorkshopServices workshops_;
};

}  // namespace holdfast::statements
