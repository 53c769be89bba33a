#include "jobs/registry.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace holdfast::jobs {
namespace {

class SetClock final : public Clock {
 public:
  Time now() const override { return now_; }
  void set(Time now) { now_ = now; }
  void advance(std::chrono::microseconds by) { now_ += by; }

 private:
  Time now_ = std::chrono::sys_days(std::chrono::November / 20 / 2026);
};

class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() { reopen(); }
  ~RegistryTest() override {
    database_.reset();
    std::filesystem::remove_all(store_);
  }

  void reopen() {
    registry_.reset();
    database_.reset();
    database_ = std::make_unique<state::Database>(store_);
    registry_ = std::make_unique<Registry>(*database_, 3, clock_);
  }

  JobId create(std::string type = "BACKUP", std::string user = "ann",
               std::optional<std::int64_t> schedule = std::nullopt) {
    clock_.advance(std::chrono::seconds(1));
    return registry_->create({.type = std::move(type),
                              .description = "description",
                              .statement = "statement",
                              .user_name = std::move(user),
                              .specification = {std::byte{1}, std::byte{2}},
                              .created_by_schedule = schedule});
  }
  JobId create_finished() {
    const JobId id = create();
    registry_->move(id, JobStatus::Running);
    clock_.advance(std::chrono::seconds(1));
    registry_->succeed(id, 5);
    return id;
  }
  std::vector<JobId> ids(const JobFilter& filter) {
    std::vector<JobId> found;
    for (const Job& job : registry_->list(filter)) found.push_back(job.id);
    return found;
  }

  static std::filesystem::path make_store() {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-jobs-XXXXXX").string();
    return mkdtemp(name.data());
  }

  const std::filesystem::path store_ = make_store();
  SetClock clock_;
  std::unique_ptr<state::Database> database_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(RegistryTest, ANewJobIsPendingAndSurvivesARestart) {
  const JobId id = create();
  reopen();
  const Job job = registry_->get(id);
  EXPECT_EQ(job.status, JobStatus::Pending);
  EXPECT_EQ(job.type, "BACKUP");
  EXPECT_EQ(job.description, "description");
  EXPECT_EQ(job.statement, "statement");
  EXPECT_EQ(job.user_name, "ann");
  EXPECT_EQ(job.created, clock_.now());
  EXPECT_EQ(job.finished, std::nullopt);
  EXPECT_EQ(job.error.has_value(), false);
  EXPECT_EQ(registry_->specification(id), (Bytes{std::byte{1}, std::byte{2}}));
  EXPECT_EQ(registry_->checkpoint(id), std::nullopt);
}

TEST_F(RegistryTest, IdsArePositiveAndIncreaseAlsoWhenTheClockGoesBack) {
  const JobId first = create();
  const JobId second = registry_->create({.type = "BACKUP"});
  const JobId third = registry_->create({.type = "BACKUP"});
  clock_.advance(-std::chrono::hours(24 * 400));
  const JobId fourth = registry_->create({.type = "BACKUP"});
  reopen();
  const JobId fifth = registry_->create({.type = "BACKUP"});
  EXPECT_GT(first, 0);
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
  EXPECT_LT(third, fourth);
  EXPECT_LT(fourth, fifth);
  EXPECT_EQ(fifth & 0x7fff, 3);
}

TEST_F(RegistryTest, AnIdTellsWhenItsJobWasCreated) {
  const JobId id = create();
  EXPECT_EQ(creation_time(id), clock_.now());
}

TEST_F(RegistryTest, KeepsCheckpointsOverRestarts) {
  const JobId id = create();
  registry_->save_checkpoint(id, as_bytes("one"));
  registry_->save_checkpoint(id, as_bytes("two"));
  reopen();
  EXPECT_EQ(as_text(registry_->checkpoint(id).value()), "two");
  EXPECT_THROW(registry_->save_checkpoint(1, as_bytes("x")), Error);
}

TEST_F(RegistryTest, UnknownJobsAreAnError) {
  EXPECT_FALSE(registry_->find(42).has_value());
  try {
    registry_->request(42, JobRequest::Pause);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kUndefinedObject);
    EXPECT_EQ(error.message(), "job with ID 42 does not exist");
  }
}

TEST_F(RegistryTest, KeepsTheWholeErrorThroughTheRevert) {
  const JobId id = create();
  registry_->move(id, JobStatus::Running);
  registry_->begin_revert(id, JobStatus::Failed,
                          Error(sqlstate::kIoError, "message").detail("Detail.").hint("Hint."));
  reopen();
  Job job = registry_->get(id);
  EXPECT_EQ(job.status, JobStatus::Reverting);
  EXPECT_EQ(job.reverts_to, JobStatus::Failed);
  registry_->move(id, JobStatus::Failed);
  job = registry_->get(id);
  EXPECT_EQ(job.finished, clock_.now());
  ASSERT_TRUE(job.error);
  EXPECT_EQ(job.error->state(), sqlstate::kIoError);
  EXPECT_EQ(job.error->message(), "message");
  EXPECT_EQ(job.error->detail(), "Detail.");
  EXPECT_EQ(job.error->hint(), "Hint.");
}

TEST_F(RegistryTest, ResumeForgetsWhyAJobPausedItself) {
  const JobId id = create();
  registry_->move(id, JobStatus::Running);
  registry_->pause_for(id, Error(sqlstate::kDiskFull, "no space"));
  EXPECT_EQ(registry_->get(id).pause_reason, "no space");
  EXPECT_EQ(registry_->request(id, JobRequest::Resume), JobStatus::Running);
  EXPECT_EQ(registry_->get(id).pause_reason, std::nullopt);
  EXPECT_FALSE(registry_->get(id).error);
}

TEST_F(RegistryTest, ResumeGoesBackToRevertingWithTheErrorKept) {
  const JobId id = create();
  registry_->move(id, JobStatus::Running);
  registry_->begin_revert(id, JobStatus::Failed, Error(sqlstate::kIoError, "first"));
  EXPECT_EQ(registry_->request(id, JobRequest::Pause, "lunch"), JobStatus::PauseRequested);
  registry_->move(id, JobStatus::Paused);
  EXPECT_EQ(registry_->get(id).pause_reason, "lunch");
  EXPECT_THROW(registry_->request(id, JobRequest::Cancel), Error);
  EXPECT_EQ(registry_->request(id, JobRequest::Resume), JobStatus::Reverting);
  EXPECT_EQ(registry_->get(id).error->message(), "first");
}

TEST_F(RegistryTest, ListsUnfinishedFirstThenNewestEndFirst) {
  const JobId old_end = create_finished();
  const JobId new_end = create_finished();
  const JobId first = create();
  const JobId second = create();
  EXPECT_EQ(ids({}), (std::vector<JobId>{second, first, new_end, old_end}));
}

TEST_F(RegistryTest, FiltersByEveryCondition) {
  const JobId finished = create_finished();
  clock_.advance(std::chrono::hours(13));
  const JobId restore = create("RESTORE", "bob");
  const JobId scheduled = create("BACKUP", "ann", 77);
  EXPECT_EQ(ids({.unfinished_or_since = clock_.now() - std::chrono::hours(12)}),
            (std::vector<JobId>{scheduled, restore}));
  EXPECT_EQ(ids({.type = "RESTORE"}), std::vector<JobId>{restore});
  EXPECT_EQ(ids({.user_name = "bob"}), std::vector<JobId>{restore});
  EXPECT_EQ(ids({.created_by_schedules = {{76, 77}}}), std::vector<JobId>{scheduled});
  EXPECT_EQ(ids({.ids = {{finished, 12345}}}), std::vector<JobId>{finished});
  EXPECT_EQ(ids({.ids = std::vector<JobId>{}}), std::vector<JobId>{});
  EXPECT_EQ(ids({.statuses = {{JobStatus::Succeeded}}}), std::vector<JobId>{finished});
  EXPECT_EQ(ids({.type = "BACKUP", .user_name = "bob"}), std::vector<JobId>{});
}

TEST_F(RegistryTest, ForgetsOldJobsButNeverUnfinishedOnes) {
  const JobId waiting = create();
  create_finished();
  clock_.advance(std::chrono::hours(24 * 15));
  const JobId recent = create_finished();
  EXPECT_EQ(registry_->remove_finished_before(clock_.now() - std::chrono::hours(24 * 14)), 1);
  EXPECT_EQ(ids({}), (std::vector<JobId>{waiting, recent}));
}

TEST_F(RegistryTest, KeepsTheTenNewestExecutionErrors) {
  const JobId id = create();
  for (int i = 1; i <= 12; ++i) registry_->add_execution_error(id, "error " + std::to_string(i));
  const std::vector<std::string> errors = registry_->execution_errors(id);
  ASSERT_EQ(errors.size(), 10U);
  EXPECT_EQ(errors.front(), "error 3");
  EXPECT_EQ(errors.back(), "error 12");
}

TEST_F(RegistryTest, ProgressNeverGoesBackAndNeverTouchesAnEndedJob) {
  const JobId id = create();
  registry_->move(id, JobStatus::Running);
  registry_->set_progress(id, 0.5, "half");
  registry_->set_progress(id, 0.4, "less");
  EXPECT_EQ(registry_->get(id).fraction_completed, 0.5);
  EXPECT_EQ(registry_->get(id).running_status, "less");
  registry_->succeed(id, 9);
  registry_->set_progress(id, 0.6, "late");
  const Job job = registry_->get(id);
  EXPECT_EQ(job.fraction_completed, 1);
  EXPECT_EQ(job.running_status, "");
  EXPECT_EQ(job.result_rows, 9);
}

TEST_F(RegistryTest, AMoveThatIsNotInTheTableStopsTheProgram) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const JobId id = create_finished();
  EXPECT_DEATH(registry_->move(id, JobStatus::Running), "broken invariant");
}

}  // namespace
}  // namespace holdfast::jobs
