#pragma once

#include "statements/schedule_services.h"

namespace holdfast::statements {

/// ALTER BACKUP SCHEDULE: either id of a pair addresses both.
class AlterScheduleStatement final : public Handler<sql::AlterBackupSchedule> {
 public:
  explicit AlterScheduleStatement(ScheduleServices services) : services_(std::move(services)) {}

  void run(const sql::AlterBackupSchedule& statement, sql::SessionContext& session,
           sql::RowSink& sink, const Stop& stop) override;

 private:
  const ScheduleServices services_;
};

}  // namespace holdfast::statements
