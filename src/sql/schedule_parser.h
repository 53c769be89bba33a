#pragma once

#include "sql/statements.h"
#include "sql/token_reader.h"

namespace holdfast::sql {

/// Each begins behind the words that tell the statement: CREATE SCHEDULE, ALTER BACKUP SCHEDULE,
/// SHOW, and the action.
CreateSchedule parse_create_schedule(TokenReader& reader);
AlterBackupSchedule parse_alter_backup_schedule(TokenReader& reader);
ShowSchedules parse_show_schedules(TokenReader& reader);
ScheduleControl parse_schedule_control(TokenReader& reader, ScheduleControl::Action action);

/// An integer literal that is an id.
std::int64_t expect_id(TokenReader& reader);

}  // namespace holdfast::sql
