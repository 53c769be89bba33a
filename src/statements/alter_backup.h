#pragma once

#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// ALTER BACKUP … ADD {NEW_KMS | NEW_PASSPHRASE} … WITH {OLD_KMS | OLD_PASSPHRASE} …
class AlterBackupStatement final : public Handler<sql::AlterBackupKeys> {
 public:
  /// `stores` outlives it.
  explicit AlterBackupStatement(Stores& stores) : stores_(stores) {}

  void run(const sql::AlterBackupKeys& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  Stores& stores_;
};

}  // namespace holdfast::statements
