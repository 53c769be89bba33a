#include "daemon/schedule_launcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/log.h"
#include "daemon/role_session.h"
#include "sql/printer.h"
#include "statements/schedule_services.h"

namespace holdfast::daemon {

namespace {

/// Takes the id that a detached statement answers.
class JobIdSink final : public sql::RowSink {
 public:
  schedule::JobId id = 0;

  void columns(std::span<const sql::Column>) override {}
  void row(std::span<const sql::Value> values) override {
    const std::string& text = values.front().value();
    std::from_chars(text.data(), text.data() + text.size(), id);
  }
  void notice(const sql::Notice& notice) override { log::info("{}", notice.message); }
  void complete(std::string_view) override {}
};

}  // namespace

schedule::JobId ScheduleLauncher::launch(const schedule::Schedule& schedule, const Stop& stop) {
  RoleSession session(
      instance_, {.role = schedule.owner, .database = schedule.database, .schedule = schedule.id},
      stop);
  JobIdSink sink;
  statements_.run(schedule.statement, {}, session, sink, stop);
  if (sink.id == 0) throw Error(sqlstate::kInternalError, "a scheduled statement made no job");
  return sink.id;
}

schedule::JobId ScheduleLauncher::newest_job(schedule::ScheduleId id) {
  schedule::JobId newest = 0;
  for (const jobs::Job& job :
       registry_.list({.type = std::string(jobs::kBackupType), .created_by_schedules = {{id}}})) {
    newest = std::max(newest, job.id);
  }
  return newest;
}

void ScheduleLauncher::delete_backups(const schedule::Schedule& schedule, const Stop& stop) {
  const auto deletion = statements::deletion_of(schedule);
  if (!deletion) return;
  // One that is at work, of the partner perhaps, would only refuse another.
  for (const jobs::Job& job :
       registry_.list({.type = std::string(jobs::kDeleteBackupsType),
       .created_by_schedules = {{schedule.id, schedule.partner.value_or(schedule.id)}}})) {
    if (!jobs::is_terminal(job.status)) return;
  }
  RoleSession session(
      instance_, {.role = schedule.owner, .database = schedule.database, .schedule = schedule.id},
      stop);
  JobIdSink sink;
  statements_.run(sql::print(*deletion, sql::Redact::Nothing), {}, session, sink, stop);
  log::info("schedule {} has started job {}, which deletes old backups", schedule.id, sink.id);
}

schedule::JobEnd ScheduleLauncher::end_of(schedule::JobId id, std::string& why) {
  const std::optional<jobs::Job> job = registry_.find(id);
  if (!job) return schedule::JobEnd::Unknown;
  if (!jobs::is_terminal(job->status)) return schedule::JobEnd::None;
  if (job->status == jobs::JobStatus::Succeeded) return schedule::JobEnd::Succeeded;
  why = job->error ? job->error->message() : std::string(jobs::name_of(job->status));
  return schedule::JobEnd::Failed;
}

void ScheduleLauncher::record_failure(const schedule::Schedule& schedule, const Error& error) {
  const std::string statement = sql::redact_text(schedule.statement);
  const Time now = registry_.clock().now();
  history_.add({.job_id = {},
                .type = std::string(jobs::kBackupType),
                .description = statement,
                .statement = statement,
                .user_name = schedule.owner,
                .status = std::string(jobs::name_of(jobs::JobStatus::Failed)),
                .started = now,
                .finished = now,
                .error_state = std::string(error.state().view()),
                .error_message = error.message(),
                .schedule_id = schedule.id,
                .server_version = instance_.last_server_version()});
}

}  // namespace holdfast::daemon
