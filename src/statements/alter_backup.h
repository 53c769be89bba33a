#pragma once

#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// ALTER BACKUP … ADD NEW_KMS … WITH OLD_KMS …
class AlterBackupStatement final : public Handler<sql::AlterBackupKms> {
 public:
  /// `stores` outlives it.
  explicit AlterBackupStatement(Stores& stores) : stores_(stores) {}

  void run(const sql::AlterBackupKms& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  Stores& stores_;
};

}  // namespace holdfast::statements
