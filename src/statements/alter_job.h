#pragma once

#include "jobs/registry.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/id_resolver.h"

namespace holdfast::statements {

/// ALTER JOB … OWNER TO: for the owner, who must be a member of the new role, and administrators.
class AlterJobStatement final : public Handler<sql::AlterJobOwner> {
 public:
  AlterJobStatement(jobs::Registry& registry, sql::StatementRunner& statements)
      : registry_(registry), resolver_(statements) {}

  void run(const sql::AlterJobOwner& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  jobs::Registry& registry_;
  IdResolver resolver_;
};

}  // namespace holdfast::statements
