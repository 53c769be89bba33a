#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/registry.h"
#include "jobs/runner.h"
#include "sql/statements.h"
#include "statements/dispatcher.h"
#include "statements/id_resolver.h"

namespace holdfast::statements {

/// SHOW JOBS and SHOW JOB in all forms. Users see their own jobs, administrators all.
///
/// The plain list leaves out jobs that finished more than 12 hours ago; forms that name jobs or
/// schedules show whatever is still in the registry. Ids that do not exist, or that the user may
/// not see, give no row.
class ShowJobsStatement final : public Handler<sql::ShowJobs> {
 public:
  ShowJobsStatement(jobs::Registry& registry, jobs::Runner& runner,
                    sql::StatementRunner& statements)
      : registry_(registry), runner_(runner), resolver_(statements) {}

  void run(const sql::ShowJobs& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  std::optional<jobs::JobFilter> filter_for(const sql::ShowJobs& statement,
                                            sql::SessionContext& session, const Stop& stop) const;
  sql::Value value(std::string_view column, const jobs::Job& job, bool list) const;

  jobs::Registry& registry_;
  jobs::Runner& runner_;
  IdResolver resolver_;
};

/// A description as the list shows it: of more than 70 characters, the first 60 and the last 7.
/// Source: CockroachDB 24.3, SHOW JOBS.
std::string shorten_description(std::string_view description);

/// A text array in PostgreSQL's text format, each element quoted.
std::string text_array(const std::vector<std::string>& elements);

}  // namespace holdfast::statements
