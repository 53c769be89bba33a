#include "statements/job_statements.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "statements/show_jobs.h"
#include "statements/testing/fake_session.h"

namespace holdfast::statements {
namespace {

using namespace std::chrono_literals;
using jobs::JobId;
using jobs::JobStatus;
using testing::FakeSession;
using testing::RecordingSink;

class EndlessBody final : public jobs::JobBody {
 public:
  void resume(jobs::JobContext& job) override {
    for (;;) job.stop().sleep(1h);
  }
  void revert(jobs::JobContext&) override {}
};

class ShiftedClock final : public Clock {
 public:
  Time now() const override { return Clock::system().now() + shift; }
  std::chrono::microseconds shift{0};
};

class JobStatementsTest : public ::testing::Test {
 protected:
  JobStatementsTest() {
    runner_.register_kind("BACKUP", {.make = [] { return std::make_unique<EndlessBody>(); }});
    runner_.register_kind("RESTORE", {.make = [] { return std::make_unique<EndlessBody>(); }});
    add_job_statements(dispatcher_, registry_, runner_);
  }
  ~JobStatementsTest() override {
    runner_.shutdown();
    std::filesystem::remove_all(store_);
  }

  JobId submit(std::string user = "ann", std::string type = "BACKUP",
               std::optional<std::int64_t> schedule = std::nullopt) {
    return runner_.submit({.type = std::move(type),
                           .description = "BACKUP INTO 'x'",
                           .statement = "BACKUP INTO 'x'",
                           .user_name = std::move(user),
                           .created_by_schedule = schedule});
  }
  JobId finished(std::string user = "ann") {
    const JobId id = submit(std::move(user));
    registry_.move(id, JobStatus::Running);
    registry_.succeed(id, 3);
    return id;
  }
  RecordingSink run(std::string_view text, std::vector<sql::Value> parameters = {}) {
    RecordingSink sink;
    dispatcher_.run(text, parameters, session_, sink, Stop::never());
    return sink;
  }
  Error error_of(std::string_view text) {
    try {
      run(text);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << text << " threw nothing";
    return Error(sqlstate::kSuccess, "");
  }
  std::vector<JobId> ids(const RecordingSink& sink) {
    std::vector<JobId> found;
    for (std::size_t i = 0; i < sink.rows.size(); ++i) {
      found.push_back(std::stoll(*sink.at(i, "job_id")));
    }
    return found;
  }
  JobStatus status(JobId id) { return registry_.get(id).status; }
  std::string text(JobId id) { return std::to_string(id); }
  void until(JobId id, JobStatus wanted) {
    for (int i = 0; i < 5000 && status(id) != wanted; ++i) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(status(id), wanted);
  }

  static std::filesystem::path make_store() {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-stmt-XXXXXX").string();
    return mkdtemp(name.data());
  }

  const std::filesystem::path store_ = make_store();
  ShiftedClock clock_;
  state::Database database_{store_};
  jobs::Registry registry_{database_, 1, clock_};
  jobs::Runner runner_{registry_, {}};
  Dispatcher dispatcher_;
  FakeSession session_;
};

TEST_F(JobStatementsTest, TheListHasTheColumnsOfTheReference) {
  const JobId id = finished();
  const RecordingSink sink = run("SHOW JOBS");
  EXPECT_EQ(sink.names,
            (std::vector<std::string>{"job_id", "job_type", "description", "user_name", "status",
                                      "running_status", "created", "finished", "modified",
                                      "fraction_completed", "error", "coordinator_id"}));
  EXPECT_EQ(sink.at(0, "job_id"), text(id));
  EXPECT_EQ(sink.at(0, "job_type"), "BACKUP");
  EXPECT_EQ(sink.at(0, "status"), "succeeded");
  EXPECT_EQ(sink.at(0, "running_status"), std::nullopt);
  EXPECT_EQ(sink.at(0, "fraction_completed"), "1");
  EXPECT_EQ(sink.at(0, "error"), "");
  EXPECT_EQ(sink.at(0, "created")->find('.'), std::string::npos);
  EXPECT_EQ(sink.tag, "SHOW 1");
}

TEST_F(JobStatementsTest, TheListLeavesOutWhatFinishedTwelveHoursAgo) {
  const JobId old = finished();
  const JobId waiting = submit();
  clock_.shift = 13h;
  const JobId recent = finished();
  EXPECT_EQ(ids(run("SHOW JOBS")), (std::vector<JobId>{waiting, recent}));
  EXPECT_EQ(ids(run("SHOW JOB " + text(old))), std::vector<JobId>{old});
  EXPECT_TRUE(run("SHOW AUTOMATIC JOBS").rows.empty());
}

TEST_F(JobStatementsTest, UsersSeeTheirOwnJobsAndAdministratorsAll) {
  const JobId mine = submit("ann");
  const JobId other = submit("bob");
  EXPECT_EQ(ids(run("SHOW JOBS")), std::vector<JobId>{mine});
  EXPECT_TRUE(run("SHOW JOB " + text(other)).rows.empty());
  session_.administrator = true;
  EXPECT_EQ(ids(run("SHOW JOBS")), (std::vector<JobId>{other, mine}));
}

TEST_F(JobStatementsTest, ShowJobGivesTheLongForm) {
  const JobId id = submit();
  registry_.add_execution_error(id, R"(with "quotes" and \)");
  const RecordingSink sink = run("SHOW JOB $1", {text(id)});
  ASSERT_EQ(sink.rows.size(), 1U);
  EXPECT_EQ(sink.at(0, "statement"), "BACKUP INTO 'x'");
  EXPECT_EQ(sink.at(0, "execution_errors"), R"({"with \"quotes\" and \\"})");
  EXPECT_EQ(sink.at(0, "trace_id"), std::nullopt);
  EXPECT_TRUE(run("SHOW JOB 12345").rows.empty());
}

TEST_F(JobStatementsTest, JobsAreFoundBySchedule) {
  const JobId id = submit("ann", "BACKUP", 77);
  submit("ann", "BACKUP", 78);
  EXPECT_EQ(ids(run("SHOW JOBS FOR SCHEDULE 77")), std::vector<JobId>{id});
  session_.answers = {FakeSession::column({"77", "99"})};
  EXPECT_EQ(ids(run("SHOW JOBS FOR SCHEDULES SELECT 77")), std::vector<JobId>{id});
  EXPECT_TRUE(run("SHOW JOBS FOR SCHEDULE 1").rows.empty());
}

TEST_F(JobStatementsTest, AQueryForIdsGoesToPostgresWithItsShowStatementsReplaced) {
  const JobId id = submit();
  session_.answers = {FakeSession::column({text(id), std::nullopt})};
  const RecordingSink sink = run("SHOW JOBS (SELECT job_id FROM [SHOW JOBS])");
  EXPECT_EQ(ids(sink), std::vector<JobId>{id});
  ASSERT_EQ(session_.queries.size(), 1U);
  EXPECT_NE(session_.queries[0].find("VALUES"), std::string::npos) << session_.queries[0];
}

TEST_F(JobStatementsTest, AnExpressionIsEvaluatedByPostgres) {
  const JobId id = submit();
  session_.answers = {FakeSession::one(text(id))};
  EXPECT_EQ(ids(run("SHOW JOB " + text(id - 1) + " + 1")), std::vector<JobId>{id});
  EXPECT_EQ(session_.queries.at(0), "SELECT (" + text(id - 1) + " + 1)::pg_catalog.int8");
  EXPECT_EQ(error_of("SHOW JOB 'abc'").state(), sqlstate::kInvalidTextRepresentation);
  EXPECT_EQ(error_of("SHOW JOB 99999999999999999999").state(), SqlState("22003"));
}

TEST_F(JobStatementsTest, SimpleFormsWorkWhilePostgresIsDown) {
  const JobId id = submit();
  session_.available = false;
  session_.local = true;
  EXPECT_EQ(ids(run("SHOW JOBS")), std::vector<JobId>{id});
  EXPECT_EQ(ids(run("SHOW JOB " + text(id))), std::vector<JobId>{id});
  EXPECT_EQ(run("CANCEL JOB '" + text(id) + "'").tag, "CANCEL JOBS 1");
  EXPECT_EQ(error_of("PAUSE JOBS SELECT 1").state(), sqlstate::kCannotConnectNow);
  EXPECT_EQ(error_of("SHOW JOB 1 + 1").state(), sqlstate::kCannotConnectNow);
}

TEST_F(JobStatementsTest, WhenCompleteWaitsForTheEnd) {
  runner_.start();
  const JobId id = submit();
  until(id, JobStatus::Running);
  std::jthread canceler([&] {
    std::this_thread::sleep_for(50ms);
    runner_.cancel(id);
  });
  const RecordingSink sink = run("SHOW JOB WHEN COMPLETE " + text(id));
  EXPECT_EQ(sink.at(0, "status"), "canceled");
  EXPECT_EQ(sink.at(0, "error"), "job canceled by user");
}

TEST_F(JobStatementsTest, WhenCompleteEndsWithTheClient) {
  runner_.start();
  const JobId id = submit();
  StopSource client;
  client.request(StopReason::Cancel);
  RecordingSink sink;
  EXPECT_THROW(
      dispatcher_.run("SHOW JOB WHEN COMPLETE " + text(id), {}, session_, sink, client.stop()),
      Stopped);
  until(id, JobStatus::Running);
}

TEST_F(JobStatementsTest, WhatPostgresHasNoUseForIsRefused) {
  for (const char* text :
       {"SHOW JOB 1 WITH EXECUTION DETAILS", "SHOW JOB 1 WITH RESOLVED TIMESTAMP",
        "SHOW CHANGEFEED JOBS", "PAUSE ALL CHANGEFEED JOBS", "CANCEL ALL IMPORT JOBS"}) {
    EXPECT_EQ(error_of(text).state(), sqlstate::kFeatureNotSupported) << text;
  }
}

TEST_F(JobStatementsTest, PauseResumeAndCancelOneJob) {
  runner_.start();
  const JobId id = submit();
  until(id, JobStatus::Running);
  EXPECT_EQ(run("PAUSE JOB " + text(id) + " WITH REASON = 'window'").tag, "PAUSE JOBS 1");
  until(id, JobStatus::Paused);
  EXPECT_EQ(registry_.get(id).pause_reason, "window");
  EXPECT_EQ(run("RESUME JOB " + text(id)).tag, "RESUME JOBS 1");
  EXPECT_EQ(status(id), JobStatus::Running);
  EXPECT_EQ(run("CANCEL JOB " + text(id)).tag, "CANCEL JOBS 1");
  until(id, JobStatus::Canceled);
  const Error error = error_of("RESUME JOB " + text(id));
  EXPECT_EQ(error.message(), "job with state canceled cannot be resumed");
}

TEST_F(JobStatementsTest, NamedJobsAreTouchedAllOrNone) {
  const JobId waiting = submit();
  const JobId ended = finished();
  session_.answers = {FakeSession::column({text(waiting), text(ended)})};
  EXPECT_EQ(error_of("PAUSE JOBS SELECT id").state(), sqlstate::kObjectNotInPrerequisiteState);
  EXPECT_EQ(status(waiting), JobStatus::Pending);
  const JobId other = submit("bob");
  session_.answers = {FakeSession::column({text(waiting), text(other)})};
  EXPECT_EQ(error_of("PAUSE JOBS SELECT id").state(), sqlstate::kInsufficientPrivilege);
  EXPECT_EQ(status(waiting), JobStatus::Pending);
  EXPECT_EQ(error_of("PAUSE JOB 1").message(), "job with ID 1 does not exist");
}

TEST_F(JobStatementsTest, SomebodyElsesJobIsForAdministrators) {
  const JobId other = submit("bob");
  const Error error = error_of("CANCEL JOB " + text(other));
  EXPECT_EQ(error.state(), sqlstate::kInsufficientPrivilege);
  EXPECT_EQ(error.message(), "user ann does not have privileges for job " + text(other));
  session_.administrator = true;
  EXPECT_EQ(run("PAUSE JOB " + text(other)).tag, "PAUSE JOBS 1");
}

TEST_F(JobStatementsTest, AllOfATypeAreThoseThatCanFollow) {
  const JobId first = submit();
  const JobId second = submit();
  const JobId restore = submit("ann", "RESTORE");
  const JobId other = submit("bob");
  finished();
  EXPECT_EQ(run("PAUSE ALL BACKUP JOBS").tag, "PAUSE ALL BACKUP JOBS 2");
  EXPECT_EQ(status(first), JobStatus::Paused);
  EXPECT_EQ(status(second), JobStatus::Paused);
  EXPECT_EQ(status(restore), JobStatus::Pending);
  EXPECT_EQ(status(other), JobStatus::Pending);
  EXPECT_EQ(run("RESUME ALL RESTORE JOBS").tag, "RESUME ALL RESTORE JOBS 0");
}

TEST_F(JobStatementsTest, ControlByScheduleCountsTheJobs) {
  const JobId id = submit("ann", "BACKUP", 77);
  EXPECT_EQ(run("PAUSE JOBS FOR SCHEDULE 77").tag, "PAUSE JOBS FOR SCHEDULES 1");
  EXPECT_EQ(status(id), JobStatus::Paused);
  EXPECT_EQ(run("RESUME JOBS FOR SCHEDULE 5").tag, "RESUME JOBS FOR SCHEDULES 0");
  session_.answers = {FakeSession::column({"77"})};
  EXPECT_EQ(run("CANCEL JOBS FOR SCHEDULES SELECT 77").tag, "CANCEL JOBS FOR SCHEDULES 1");
}

TEST_F(JobStatementsTest, AJobCanBeHandedOver) {
  const JobId id = submit();
  sql::QueryResult member;
  member.rows = {{"10", "t"}};
  session_.answers = {member};
  EXPECT_EQ(run("ALTER JOB " + text(id) + " OWNER TO team").tag, "ALTER JOB");
  EXPECT_EQ(registry_.get(id).user_name, "team");
  EXPECT_EQ(error_of("ALTER JOB " + text(id) + " OWNER TO ann").state(),
            sqlstate::kInsufficientPrivilege);
}

TEST(ShowJobs, ShortensLongDescriptionsByCharacters) {
  const std::string seventy(70, 'x');
  EXPECT_EQ(shorten_description(seventy), seventy);
  const std::string head(60, 'a');
  EXPECT_EQ(shorten_description(head + std::string(20, 'b') + "1234567"), head + " … 1234567");
  std::string umlauts;
  for (int i = 0; i < 80; ++i) umlauts += "ä";
  std::string expected;
  for (int i = 0; i < 60; ++i) expected += "ä";
  expected += " … ";
  for (int i = 0; i < 7; ++i) expected += "ä";
  EXPECT_EQ(shorten_description(umlauts), expected);
}

}  // namespace
}  // namespace holdfast::statements
