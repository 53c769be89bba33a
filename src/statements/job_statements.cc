#include "statements/job_statements.h"

#include "statements/alter_job.h"
#include "statements/job_control.h"
#include "statements/show_jobs.h"

namespace holdfast::statements {

void add_job_statements(Dispatcher& dispatcher, jobs::Registry& registry, jobs::Runner& runner) {
  dispatcher.add<sql::ShowJobs>(std::make_unique<ShowJobsStatement>(registry, runner, dispatcher));
  dispatcher.add<sql::JobControl>(
      std::make_unique<JobControlStatement>(registry, runner, dispatcher));
  dispatcher.add<sql::AlterJobOwner>(std::make_unique<AlterJobStatement>(registry, dispatcher));
}

}  // namespace holdfast::statements
