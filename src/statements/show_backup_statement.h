#pragma once

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

/// SHOW BACKUP [FILES | VALIDATE] FROM … IN: what one backup holds, and whether it is whole.
class ShowBackupStatement final : public Handler<sql::ShowBackup> {
 public:
  explicit ShowBackupStatement(Stores& stores) : stores_(stores) {}
  void run(const sql::ShowBackup& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  Stores& stores_;
};

}  // namespace holdfast::statements
