#pragma once

#include "jobs/registry.h"
#include "jobs/runner.h"
#include "statements/dispatcher.h"

namespace holdfast::statements {

/// Adds the statements about jobs: SHOW JOBS in all its forms, PAUSE, RESUME and CANCEL JOBS,
/// ALTER JOB. All three outlive the sessions.
void add_job_statements(Dispatcher& dispatcher, jobs::Registry& registry, jobs::Runner& runner);

}  // namespace holdfast::statements
