#pragma once

#include "statements/schedule_services.h"

namespace holdfast::statements {

/// CREATE SCHEDULE FOR BACKUP: tries the backup out, then records one schedule, or a pair of which
/// the incremental waits for the first full.
class CreateScheduleStatement final : public Handler<sql::CreateSchedule> {
 public:
  explicit CreateScheduleStatement(ScheduleServices services) : services_(std::move(services)) {}

  void run(const sql::CreateSchedule& statement, sql::SessionContext& session, sql::RowSink& sink,
           const Stop& stop) override;

 private:
  void refuse_existing_backups(const sql::CreateSchedule& statement, sql::SessionContext& session,
                               const Stop& stop) const;
  std::vector<schedule::Schedule> make(const sql::CreateSchedule& statement,
                                       const sql::Backup& backup, sql::SessionContext& session,
                                       const Stop& stop) const;

  const ScheduleServices services_;
};

/// `options` with WITH detached, however it was given: nobody waits for a scheduled backup.
sql::Options detached(sql::Options options);

}  // namespace holdfast::statements
