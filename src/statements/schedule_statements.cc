#include "statements/alter_schedule.h"
#include "statements/create_schedule.h"
#include "statements/schedule_control.h"
#include "statements/schedule_services.h"
#include "statements/show_schedules.h"

namespace holdfast::statements {

void add_schedule_statements(Dispatcher& dispatcher, const ScheduleServices& services) {
  dispatcher.add<sql::CreateSchedule>(std::make_unique<CreateScheduleStatement>(services));
  dispatcher.add<sql::AlterBackupSchedule>(std::make_unique<AlterScheduleStatement>(services));
  dispatcher.add<sql::ShowSchedules>(std::make_unique<ShowSchedulesStatement>(services));
  dispatcher.add<sql::ShowCreateSchedule>(std::make_unique<ShowCreateScheduleStatement>(services));
  dispatcher.add<sql::ScheduleControl>(std::make_unique<ScheduleControlStatement>(services));
}

}  // namespace holdfast::statements
