#pragma once

#include "statements/id_resolver.h"
#include "statements/schedule_services.h"

namespace holdfast::statements {

/// SHOW SCHEDULES and SHOW SCHEDULE. Users see their own schedules, administrators all.
class ShowSchedulesStatement final : public Handler<sql::ShowSchedules> {
 public:
  explicit ShowSchedulesStatement(ScheduleServices services)
      : services_(std::move(services)), resolver_(*services_.statements) {}

  void run(const sql::ShowSchedules& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  sql::Row row(const schedule::Schedule& schedule, bool for_backup) const;

  const ScheduleServices services_;
  IdResolver resolver_;
};

/// SHOW CREATE SCHEDULE: the statement that makes it again, without secrets. For administrators.
class ShowCreateScheduleStatement final : public Handler<sql::ShowCreateSchedule> {
 public:
  explicit ShowCreateScheduleStatement(ScheduleServices services)
      : services_(std::move(services)), resolver_(*services_.statements) {}

  void run(const sql::ShowCreateSchedule& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop& stop) override;

 private:
  const ScheduleServices services_;
  IdResolver resolver_;
};

}  // namespace holdfast::statements
