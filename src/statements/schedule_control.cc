#include "statements/schedule_control.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "schedule/recurrence.h"
#include "statements/privileges.h"

namespace holdfast::statements {

namespace {

using schedule::Schedule;
using Action = sql::ScheduleControl::Action;
using Edit = schedule::Schedules::Edit;

std::string_view word_for(Action action) {
  switch (action) {
    case Action::Pause:
      return "PAUSE";
    case Action::Resume:
      return "RESUME";
    case Action::Drop:
      return "DROP";
    case Action::Execute:
      break;
  }
  return "EXECUTE";
}

void require_rights(const Schedule& schedule, const JobRights& rights, Action action) {
  if (rights.all || schedule.owner == rights.user) return;
  throw Error(sqlstate::kInsufficientPrivilege,
              fmt::format("must have REPAIRCLUSTER privilege or be owner of the schedule {} to {} "
                          "it",
                          schedule.id, word_for(action)))
      .hint(fmt::format("Superusers and members of the role {} have it.", kAdministratorRole));
}

void pause(Edit& edit, Schedule& schedule) {
  schedule.paused = true;
  schedule.next_run.reset();
  schedule.state.clear();
  edit.save(schedule);
}

void resume(Edit& edit, Schedule& schedule, Time now) {
  if (!schedule.paused) return;
  schedule.paused = false;
  schedule.state.clear();
  schedule.next_run =
      schedule::Recurrence::parse(schedule.recurrence, schedule.time_zone).next(now);
  schedule.next_run_recurs = true;
  edit.save(schedule);
}

/// An incremental cannot go on without its full; a full can without its incremental.
std::size_t drop(Edit& edit, const Schedule& schedule) {
  std::size_t dropped = edit.remove(schedule.id) ? 1 : 0;
  std::optional<Schedule> partner =
      schedule.partner ? edit.find(*schedule.partner) : std::optional<Schedule>();
  if (!partner) return dropped;
  if (partner->incremental) return dropped + (edit.remove(partner->id) ? 1 : 0);
  partner->partner.reset();
  partner->unpause_partner = false;
  edit.save(*partner);
  return dropped;
}

}  // namespace

void ScheduleControlStatement::run(const sql::ScheduleControl& statement,
                                   sql::SessionContext& session, sql::RowSink& sink,
                                   const Stop& stop) {
  if (statement.action == Action::Execute) {
    throw Error(sqlstate::kFeatureNotSupported,
                "EXECUTE SCHEDULE is not supported for backup schedules")
        .hint("Use ALTER BACKUP SCHEDULE … EXECUTE IMMEDIATELY.");
  }
  const JobRights rights = JobRights::of(session);
  std::vector<schedule::ScheduleId> ids;
  if (statement.select) {
    ids = resolver_.evaluate(*statement.select, session, stop);
  } else if (const auto id = resolver_.evaluate(statement.id.value(), session)) {
    ids = {*id};
  }
  std::size_t count = 0;
  {
    Edit edit(*services_.schedules);
    // All are checked before the first is touched.
    std::vector<Schedule> found;
    for (const schedule::ScheduleId id : ids) {
      const std::optional<Schedule> schedule = edit.find(id);
      if (!schedule) throw_unknown_schedule(id);
      require_rights(*schedule, rights, statement.action);
      found.push_back(*schedule);
    }
    for (Schedule& schedule : found) {
      switch (statement.action) {
        case Action::Pause:
          pause(edit, schedule);
          ++count;
          break;
        case Action::Resume:
          resume(edit, schedule, services_.clock->now());
          ++count;
          break;
        default:
          count += drop(edit, schedule);
      }
    }
    edit.commit();
  }
  log::info("{} SCHEDULES {}, user={}", word_for(statement.action), count, rights.user);
  services_.wake();
  sink.complete(fmt::format("{} SCHEDULES {}", word_for(statement.action), count));
}

}  // namespace holdfast::statements
