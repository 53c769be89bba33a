#include "schedule/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <map>
#include <memory>

#include "schedule/recurrence.h"

namespace holdfast::schedule {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;

Time utc(std::string_view text) { return parse_timestamp(text).value(); }

class FakeClock final : public Clock {
 public:
  Time now() const override { return time; }
  Time time = utc("2026-11-25 10:10");
};

/// Jobs that end when the test says so.
class FakeLauncher final : public Launcher {
 public:
  explicit FakeLauncher(const Clock& clock) : clock_(clock) {}

  bool up = true;
  JobEnd end_at_once = JobEnd::Succeeded;
  std::function<void()> on_launch = [] {};
  std::function<void(std::string_view point)> at_point = [](std::string_view) {};
  std::vector<std::pair<ScheduleId, Time>> launched;
  std::map<JobId, JobEnd> jobs;
  std::map<ScheduleId, JobId> newest;
  std::vector<std::string> recorded;
  std::vector<ScheduleId> deletions;

  bool ready() override { return up; }
  JobId launch(const Schedule& schedule, const Stop&) override {
    on_launch();
    return add_job(schedule.id);
  }
  JobId newest_job(ScheduleId id) override { return newest[id]; }
  JobEnd end_of(JobId job, std::string& why) override {
    if (!jobs.contains(job)) return JobEnd::Unknown;
    if (jobs[job] == JobEnd::Failed) why = "the job failed";
    return jobs[job];
  }
  void delete_backups(const Schedule& schedule, const Stop&) override {
    if (!up) throw Error(sqlstate::kCannotConnectNow, "PostgreSQL is down");
    deletions.push_back(schedule.id);
  }
  void pause_point(std::string_view name, const Stop&) override { at_point(name); }
  void record_failure(const Schedule&, const Error& error) override {
    recorded.push_back(error.message());
  }

  JobId add_job(ScheduleId id) {
    const JobId job = ++last_job_;
    launched.emplace_back(id, clock_.now());
    jobs[job] = end_at_once;
    newest[id] = job;
    return job;
  }

 private:
  const Clock& clock_;
  JobId last_job_ = 0;
};

class SchedulerTest : public ::testing::Test {
 protected:
  /// In memory where there is such a place: years mean thousands of durable changes.
  static std::filesystem::path make_directory() {
    const std::filesystem::path memory = "/dev/shm";
    const auto parent =
        std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path();
    std::string name = (parent / "holdfast-schedule-XXXXXX").string();
    return mkdtemp(name.data());
  }
  SchedulerTest() { restart(); }
  ~SchedulerTest() override {
    scheduler_.reset();
    std::filesystem::remove_all(store_);
  }

  /// As when the daemon is started again: nothing is known but the rows.
  void restart() { scheduler_ = std::make_unique<Scheduler>(schedules_, launcher_, clock_); }

  ScheduleId add(const std::string& cron, const std::function<void(Schedule&)>& adapt = {}) {
    Schedules::Edit edit(schedules_);
    Schedule schedule{.id = edit.new_id(clock_.now()),
                      .label = "nightly",
                      .owner = "ann",
                      .database = "bank",
                      .created = clock_.now(),
                      .statement = "BACKUP INTO 'nodelocal://self/x'",
                      .recurrence = cron,
                      .time_zone = {}};
    schedule.next_run = Recurrence::parse(cron).next(clock_.now());
    if (adapt) adapt(schedule);
    edit.insert(schedule);
    edit.commit();
    return schedule.id;
  }
  Schedule row(ScheduleId id) { return schedules_.find(id).value(); }
  void tick() { scheduler_->tick(Stop::never()); }
  /// Lets time pass in steps, with a tick after each.
  void pass(std::chrono::microseconds time, std::chrono::microseconds step) {
    for (const Time end = clock_.time + time; clock_.time < end;) {
      clock_.time += step;
      tick();
    }
  }
  std::size_t runs() const { return launcher_.launched.size(); }

  std::filesystem::path store_ = make_directory();
  state::Database database_{store_};
  Schedules schedules_{database_, 1};
  FakeClock clock_;
  FakeLauncher launcher_{clock_};
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, RunsEveryDayForYearsAndOnEveryLeapDay) {
  const ScheduleId daily = add("0 2 * * *");
  const ScheduleId leap = add("0 12 29 2 *");
  pass(days(4 * 366), hours(6));
  std::size_t of_daily = 0;
  for (const auto& [id, time] : launcher_.launched) {
    if (id == daily) ++of_daily;
    if (id == leap) {
      EXPECT_EQ(format_timestamptz(time).substr(0, 10), "2028-02-29");
    }
  }
  EXPECT_EQ(of_daily, 4 * 366U);
  EXPECT_EQ(runs(), of_daily + 1);
  EXPECT_EQ(row(daily).failures, 0);
}

TEST_F(SchedulerTest, DeletesBackupsAfterEachSuccessOnly) {
  const ScheduleId keeps = add("@hourly");
  const ScheduleId deletes = add("@hourly", [](Schedule& schedule) {
    schedule.retention = "30 days";
    schedule.keep_fulls = 7;
  });
  EXPECT_EQ(row(deletes).retention, "30 days");
  EXPECT_EQ(row(deletes).keep_fulls, 7);
  pass(hours(2), minutes(30));
  tick();
  EXPECT_EQ(launcher_.deletions, (std::vector<ScheduleId>{deletes, deletes}));
  launcher_.end_at_once = JobEnd::Failed;
  pass(hours(2), minutes(30));
  tick();
  EXPECT_EQ(launcher_.deletions.size(), 2U);
  EXPECT_EQ(row(keeps).successes, 2);
}

TEST_F(SchedulerTest, ADeletionThatCannotBeginIsNoFailureOfTheSchedule) {
  const ScheduleId id = add("@hourly", [](Schedule& schedule) { schedule.keep_fulls = 7; });
  clock_.time += hours(1);
  tick();
  launcher_.up = false;
  tick();
  EXPECT_EQ(row(id).successes, 1);
  EXPECT_EQ(row(id).failures, 0);
  EXPECT_EQ(row(id).state, "could not delete old backups: PostgreSQL is down");
}

TEST_F(SchedulerTest, MakesUpForAMissedTimeOnce) {
  const ScheduleId id = add("@hourly");
  clock_.time += days(3);
  restart();
  tick();
  tick();
  EXPECT_EQ(runs(), 1U);
  EXPECT_EQ(format_timestamptz(*row(id).next_run), "2026-11-28 11:00:00+00");
}

TEST_F(SchedulerTest, DoesNotRunTwiceWhenTheClockIsCorrected) {
  add("@hourly");
  pass(minutes(55), minutes(5));
  ASSERT_EQ(runs(), 1U);
  clock_.time = utc("2026-11-25 10:59:58");
  pass(minutes(2), minutes(1));
  EXPECT_EQ(runs(), 1U);
}

TEST_F(SchedulerTest, PlansAnewWhenTheClockWasYearsAhead) {
  const ScheduleId id = add("@hourly");
  clock_.time = utc("2036-01-01 00:30");
  tick();
  ASSERT_EQ(runs(), 1U);
  clock_.time = utc("2026-11-25 12:30");
  tick();
  EXPECT_EQ(format_timestamptz(*row(id).next_run), "2026-11-25 13:00:00+00");
}

TEST_F(SchedulerTest, KeepsAFirstRunThatIsFarAway) {
  const ScheduleId id = add("@hourly", [](Schedule& schedule) {
    schedule.next_run = utc("2027-06-01 00:00");
    schedule.next_run_recurs = false;
  });
  pass(days(1), hours(1));
  EXPECT_EQ(runs(), 0U);
  EXPECT_EQ(row(id).next_run, utc("2027-06-01 00:00"));
}

TEST_F(SchedulerTest, WaitsForThePreviousRun) {
  launcher_.end_at_once = JobEnd::None;
  const ScheduleId id = add("@hourly");
  pass(hours(5), minutes(10));
  EXPECT_EQ(runs(), 1U);
  EXPECT_EQ(row(id).state, "waiting for the previous run to end");
  launcher_.jobs.begin()->second = JobEnd::Succeeded;
  tick();
  EXPECT_EQ(runs(), 2U);
  EXPECT_EQ(row(id).state, "");
}

TEST_F(SchedulerTest, SkipsWhileThePreviousOneRuns) {
  launcher_.end_at_once = JobEnd::None;
  const ScheduleId id = add("@hourly", [](Schedule& schedule) {
    schedule.on_previous_running = OnPreviousRunning::Skip;
  });
  pass(hours(5), minutes(10));
  EXPECT_EQ(runs(), 1U);
  launcher_.jobs.begin()->second = JobEnd::Succeeded;
  tick();
  EXPECT_EQ(runs(), 1U);
  EXPECT_GT(*row(id).next_run, clock_.time);
}

TEST_F(SchedulerTest, StartsBesideThePreviousOneAndSeesEachEnd) {
  launcher_.end_at_once = JobEnd::None;
  const ScheduleId id = add("@hourly", [](Schedule& schedule) {
    schedule.on_previous_running = OnPreviousRunning::Start;
  });
  pass(hours(3), minutes(10));
  EXPECT_EQ(runs(), 3U);
  EXPECT_EQ(row(id).running_jobs.size(), 3U);
  for (auto& [job, end] : launcher_.jobs) end = job == 2 ? JobEnd::Failed : JobEnd::Succeeded;
  tick();
  EXPECT_TRUE(row(id).running_jobs.empty());
  EXPECT_EQ(row(id).successes, 2);
  EXPECT_EQ(row(id).failures, 1);
}

TEST_F(SchedulerTest, ReschedulesAfterAFailure) {
  launcher_.end_at_once = JobEnd::Failed;
  const ScheduleId id = add("@hourly");
  pass(minutes(55), minutes(5));
  EXPECT_EQ(row(id).state, "last run failed: the job failed");
  EXPECT_EQ(format_timestamptz(*row(id).next_run), "2026-11-25 12:00:00+00");
  EXPECT_EQ(runs(), 1U);
}

TEST_F(SchedulerTest, RetriesSoonAfterAFailure) {
  launcher_.end_at_once = JobEnd::Failed;
  const ScheduleId id = add("@hourly", [](Schedule& schedule) {
    schedule.on_execution_failure = OnExecutionFailure::Retry;
  });
  pass(minutes(51), minutes(1));
  EXPECT_EQ(runs(), 1U);
  launcher_.end_at_once = JobEnd::Succeeded;
  pass(minutes(2), minutes(1));
  EXPECT_EQ(runs(), 2U);
  pass(minutes(3), minutes(1));
  EXPECT_EQ(runs(), 2U);
  EXPECT_EQ(row(id).state, "");
  EXPECT_EQ(format_timestamptz(*row(id).next_run), "2026-11-25 12:00:00+00");
}

TEST_F(SchedulerTest, PausesAfterAFailure) {
  launcher_.on_launch = [] { throw Error(sqlstate::kIoError, "the storage is away"); };
  const ScheduleId id = add("@hourly", [](Schedule& schedule) {
    schedule.on_execution_failure = OnExecutionFailure::Pause;
  });
  pass(hours(5), minutes(10));
  EXPECT_TRUE(row(id).paused);
  EXPECT_EQ(row(id).next_run, std::nullopt);
  EXPECT_EQ(row(id).state, "last run failed: the storage is away");
  EXPECT_EQ(launcher_.recorded, std::vector<std::string>{"the storage is away"});
}

TEST_F(SchedulerTest, PoliciesBehaveWhileTheStorageIsAwayForHours) {
  const auto add_with = [&](OnExecutionFailure policy) {
    return add("*/15 * * * *", [&](Schedule& s) { s.on_execution_failure = policy; });
  };
  const ScheduleId reschedule = add_with(OnExecutionFailure::Reschedule);
  const ScheduleId retry = add_with(OnExecutionFailure::Retry);
  const ScheduleId pause = add_with(OnExecutionFailure::Pause);
  launcher_.end_at_once = JobEnd::Failed;
  for (int minute = 0; minute < 6 * 60; ++minute) {
    pass(minutes(1), minutes(1));
    for (const ScheduleId id : {reschedule, retry, pause}) {
      ASSERT_LE(row(id).running_jobs.size(), 1U) << "runs pile up";
    }
  }
  tick();
  EXPECT_EQ(row(reschedule).failures, 6 * 4);
  // Once a minute from the first failure on, however often a regular time comes as well.
  EXPECT_GE(row(retry).failures, 6 * 60 / 2 - 10);
  EXPECT_LE(row(retry).failures, 6 * 60);
  EXPECT_EQ(row(pause).failures, 1);
  EXPECT_TRUE(row(pause).paused);
  EXPECT_EQ(row(reschedule).state, "last run failed: the job failed");

  // It is back: one run each, nothing is made up for that has failed.
  launcher_.end_at_once = JobEnd::Succeeded;
  const std::size_t before = runs();
  pass(minutes(15), minutes(1));
  tick();
  EXPECT_EQ(row(reschedule).successes, 1);
  EXPECT_LE(row(retry).successes, 2);
  EXPECT_LE(runs() - before, 3U);
  EXPECT_EQ(row(reschedule).state, "");
  EXPECT_EQ(row(retry).state, "");
  EXPECT_EQ(row(pause).successes, 0);
}

TEST_F(SchedulerTest, ARunThatDiesAnywhereTakesPlaceOnce) {
  for (const std::string_view place :
       {"schedule.after_claim", "schedule.after_launch", "schedule.after_record",
        "schedule.after_end", "schedule.after_deletion"}) {
    launcher_.at_point = [](std::string_view) {};
    const ScheduleId id = add("@hourly", [](Schedule& schedule) { schedule.keep_fulls = 2; });
    const std::size_t before = runs();
    bool died = false;
    launcher_.at_point = [&](std::string_view point) {
      if (point != place || died) return;
      died = true;
      throw Stopped{StopReason::Shutdown};
    };
    clock_.time = *row(id).next_run;
    for (int i = 0; i < 4; ++i) {
      try {
        tick();
      } catch (const Stopped&) {
        restart();
      }
    }
    EXPECT_TRUE(died) << place;
    EXPECT_EQ(runs() - before, 1U) << place;
    EXPECT_EQ(row(id).successes, 1) << place;
    EXPECT_FALSE(row(id).claimed.has_value()) << place;
    EXPECT_GE(std::ranges::count(launcher_.deletions, id), 1) << place;
    Schedules::Edit edit(schedules_);
    edit.remove(id);
    edit.commit();
  }
}

TEST_F(SchedulerTest, WaitsForPostgresAndThenRunsOnce) {
  launcher_.up = false;
  const ScheduleId id = add("@hourly");
  pass(hours(5), minutes(10));
  EXPECT_EQ(runs(), 0U);
  EXPECT_EQ(row(id).state, "waiting for PostgreSQL, which is down");
  launcher_.up = true;
  tick();
  tick();
  EXPECT_EQ(runs(), 1U);
  EXPECT_EQ(row(id).state, "");
}

TEST_F(SchedulerTest, MakesUpForARunThatACrashCutOffBeforeItsJob) {
  const ScheduleId id = add("@hourly");
  launcher_.on_launch = [] { throw Stopped{StopReason::Shutdown}; };
  clock_.time += minutes(55);
  EXPECT_THROW(tick(), Stopped);
  EXPECT_TRUE(row(id).claimed.has_value());
  launcher_.on_launch = [] {};
  restart();
  tick();
  tick();
  EXPECT_EQ(runs(), 1U);
  EXPECT_FALSE(row(id).claimed.has_value());
  EXPECT_EQ(format_timestamptz(*row(id).next_run), "2026-11-25 12:00:00+00");
}

TEST_F(SchedulerTest, AdoptsTheJobOfARunThatACrashCutOffAfterIt) {
  const ScheduleId id = add("@hourly");
  launcher_.on_launch = [&] {
    launcher_.add_job(id);
    throw Stopped{StopReason::Shutdown};
  };
  clock_.time += minutes(55);
  EXPECT_THROW(tick(), Stopped);
  launcher_.on_launch = [] {};
  restart();
  tick();
  tick();
  EXPECT_EQ(runs(), 1U);
  EXPECT_EQ(row(id).successes, 1);
}

TEST_F(SchedulerTest, LetsTheIncrementalBeginAfterItsFirstFull) {
  launcher_.end_at_once = JobEnd::Failed;
  const ScheduleId full = add("@daily");
  const ScheduleId incremental = add("@hourly", [&](Schedule& schedule) {
    schedule.incremental = true;
    schedule.partner = full;
    schedule.paused = true;
    schedule.next_run.reset();
  });
  {
    Schedules::Edit edit(schedules_);
    Schedule schedule = edit.find(full).value();
    schedule.partner = incremental;
    schedule.unpause_partner = true;
    edit.save(schedule);
    edit.commit();
  }
  pass(days(1), minutes(30));
  EXPECT_TRUE(row(incremental).paused);
  launcher_.end_at_once = JobEnd::Succeeded;
  pass(days(1), minutes(30));
  EXPECT_FALSE(row(incremental).paused);
  EXPECT_FALSE(row(full).unpause_partner);
  EXPECT_GE(row(incremental).successes, 9);
}

TEST_F(SchedulerTest, RunsNothingThatIsPausedOrDropped) {
  const ScheduleId paused = add("@hourly", [](Schedule& schedule) { schedule.paused = true; });
  const ScheduleId dropped = add("@hourly");
  launcher_.end_at_once = JobEnd::None;
  pass(minutes(55), minutes(5));
  EXPECT_EQ(runs(), 1U);
  {
    Schedules::Edit edit(schedules_);
    EXPECT_TRUE(edit.remove(dropped));
    edit.commit();
  }
  launcher_.jobs.begin()->second = JobEnd::Succeeded;
  pass(hours(5), minutes(10));
  EXPECT_EQ(runs(), 1U);
  EXPECT_EQ(row(paused).successes, 0);
}

TEST_F(SchedulerTest, RunsOnItsThreadAndWakesUp) {
  std::promise<void> launched;
  launcher_.on_launch = [&] { launched.set_value(); };
  scheduler_->start();
  add("@hourly", [&](Schedule& schedule) { schedule.next_run = clock_.time; });
  scheduler_->wake();
  launched.get_future().wait();
  scheduler_->shutdown();
  EXPECT_EQ(runs(), 1U);
}

TEST_F(SchedulerTest, WritesNoSecretInClear) {
  const ScheduleId id = add("@hourly", [](Schedule& schedule) {
    schedule.statement = "BACKUP INTO 'x' WITH encryption_passphrase = 'hush'";
  });
  for (const auto& file : std::filesystem::directory_iterator(store_)) {
    std::ifstream in(file.path(), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(text.find("hush"), std::string::npos) << file.path();
  }
  EXPECT_NE(row(id).statement.find("hush"), std::string::npos);
}

TEST_F(SchedulerTest, GivesNoIdTwice) {
  const ScheduleId first = add("@hourly");
  clock_.time -= days(400);
  EXPECT_GT(add("@hourly"), first);
}

}  // namespace
}  // namespace holdfast::schedule
