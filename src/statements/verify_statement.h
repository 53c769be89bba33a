#pragma once

#include <string_view>

#include "jobs/registry.h"
#include "jobs/runner.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/stores.h"

namespace holdfast::statements {

/// Completes "… are allowed to": a workshop runs the code that a backup's catalogs hold.
inline constexpr std::string_view kVerifyRight = "verify backups";

/// VERIFY BACKUP … IN: finds the backup and the moment, creates the job, answers what it checked.
class VerifyStatement final : public Handler<sql::VerifyBackup> {
 public:
  VerifyStatement(Stores& stores, jobs::Registry& registry, jobs::Runner& runner)
      : stores_(stores), registry_(registry), runner_(runner) {}

  void run(const sql::VerifyBackup& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  Stores& stores_;
  jobs::Registry& registry_;
  jobs::Runner& runner_;
};

}  // namespace holdfast::statements
