#pragma once

#include "statements/id_resolver.h"
#include "statements/job_rights.h"
#include "statements/schedule_services.h"

namespace holdfast::statements {

/// PAUSE, RESUME and DROP SCHEDULE(S), on all that are named or, when one may not be touched or
/// does not exist, on none. Jobs that run go on.
class ScheduleControlStatement final : public Handler<sql::ScheduleControl> {
 public:
  explicit ScheduleControlStatement(ScheduleServices services)
      : services_(std::move(services)), resolver_(*services_.statements) {}

  void run(const sql::ScheduleControl& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  const ScheduleServices services_;
  IdResolver resolver_;
};

}  // namespace holdfast::statements
