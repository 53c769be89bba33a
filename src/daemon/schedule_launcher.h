#pragma once

#include <string>

#include "daemon/instance.h"
#include "jobs/registry.h"
#include "jobs/runner.h"
#include "schedule/scheduler.h"
#include "sql/statement_runner.h"
#include "state/history.h"

namespace holdfast::daemon {

/// Runs the statements of schedules as a client would: in a session of the schedule's owner, in its
/// database, through the one path that all statements take.
class ScheduleLauncher final : public schedule::Launcher {
 public:
  ScheduleLauncher(Instance& instance, jobs::Registry& registry, jobs::Runner& runner,
                   state::History& history, sql::StatementRunner& statements)
      : instance_(instance),
        registry_(registry),
        runner_(runner),
        history_(history),
        statements_(statements) {}

  bool ready() override { return instance_.target().has_value(); }
  schedule::JobId launch(const schedule::Schedule& schedule, const Stop& stop) override;
  schedule::JobId newest_job(schedule::ScheduleId id) override;
  schedule::JobEnd end_of(schedule::JobId job, std::string& why) override;
  void delete_backups(const schedule::Schedule& schedule, const Stop& stop) override;
  void pause_point(std::string_view name, const Stop& stop) override {
    runner_.pause_point(name, stop);
  }
  void record_failure(const schedule::Schedule& schedule, const Error& error) override;

 private:
  Instance& instance_;
  jobs::Registry& registry_;
  jobs::Runner& runner_;
  state::History& history_;
  sql::StatementRunner& statements_;
};

}  // namespace holdfast::daemon
