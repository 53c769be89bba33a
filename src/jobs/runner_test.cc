#include "jobs/runner.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <stdexcept>

namespace holdfast::jobs {
namespace {

using namespace std::chrono_literals;
using Work = std::function<void(JobContext&)>;

/// A body whose two parts are what the test says.
class ScriptedBody final : public JobBody {
 public:
  ScriptedBody(const Work& forward, const Work& back) : forward_(forward), back_(back) {}
  void resume(JobContext& job) override { forward_(job); }
  void revert(JobContext& job) override { back_(job); }

 private:
  const Work& forward_;
  const Work& back_;
};

[[noreturn]] void work_until_stopped(JobContext& job) {
  for (;;) job.stop().sleep(1h);
}

class RunnerTest : public ::testing::Test {
 protected:
  ~RunnerTest() override {
    close();
    std::filesystem::remove_all(store_);
  }

  /// A new process, as far as the state is concerned.
  void open(RunnerOptions options = {}) {
    close();
    options.first_retry_after = 1ms;
    options.progress_interval = 20ms;
    database_ = std::make_unique<state::Database>(store_);
    registry_ = std::make_unique<Registry>(*database_, 1);
    runner_ = std::make_unique<Runner>(*registry_, options);
    runner_->register_kind(
        "BACKUP", {.make = [this] { return std::make_unique<ScriptedBody>(forward_, back_); }});
    runner_->register_kind(
        "RESTORE", {.make = [this] { return std::make_unique<ScriptedBody>(forward_, back_); },
                    .on_disk_full = OnDiskFull::Pause});
  }
  void start(RunnerOptions options = {}) {
    open(std::move(options));
    runner_->start();
  }
  void close() {
    runner_.reset();
    registry_.reset();
    database_.reset();
  }

  JobId submit(std::string type = "BACKUP") {
    return runner_->submit({.type = std::move(type),
                            .description = "test",
                            .statement = "TEST",
                            .user_name = "ann",
                            .specification = {}});
  }
  JobStatus status(JobId id) { return registry_->get(id).status; }
  /// Waits for a status; the time that it took.
  std::chrono::milliseconds until(JobId id, JobStatus wanted) {
    const auto begin = std::chrono::steady_clock::now();
    while (status(id) != wanted) {
      if (std::chrono::steady_clock::now() - begin > 10s) {
        ADD_FAILURE() << "job is " << name_of(status(id)) << ", not " << name_of(wanted);
        break;
      }
      std::this_thread::sleep_for(2ms);
    }
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 begin);
  }
  Error wait_error(JobId id) {
    try {
      runner_->wait(id, Stop::never());
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "the job succeeded";
    return Error(sqlstate::kSuccess, "");
  }
  /// Puts a row into the state that a killed process would leave.
  JobId left_behind(JobStatus left) {
    const JobId id = registry_->create({.type = "BACKUP"});
    if (left == JobStatus::Pending) return id;
    registry_->move(id, JobStatus::Running);
    if (left == JobStatus::PauseRequested) registry_->request(id, JobRequest::Pause);
    if (left == JobStatus::CancelRequested) registry_->request(id, JobRequest::Cancel);
    if (left == JobStatus::Reverting) {
      registry_->begin_revert(id, JobStatus::Failed, Error(sqlstate::kIoError, "broken"));
    }
    return id;
  }

  static std::filesystem::path make_store() {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-run-XXXXXX").string();
    return mkdtemp(name.data());
  }

  const std::filesystem::path store_ = make_store();
  Work forward_ = [](JobContext&) {};
  Work back_ = [](JobContext&) {};
  std::unique_ptr<state::Database> database_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<Runner> runner_;
};

TEST_F(RunnerTest, AJobThatReturnsHasSucceeded) {
  forward_ = [](JobContext& job) { job.set_result_rows(42); };
  start();
  const JobId id = submit();
  const Outcome outcome = runner_->wait(id, Stop::never());
  EXPECT_EQ(outcome.status, JobStatus::Succeeded);
  EXPECT_EQ(outcome.rows, 42);
  EXPECT_EQ(outcome.fraction_completed, 1);
  const Job job = registry_->get(id);
  EXPECT_TRUE(job.finished);
  EXPECT_EQ(job.num_runs, 1);
  EXPECT_EQ(job.coordinator_id, 1);
}

TEST_F(RunnerTest, AFailedJobRevertsAndKeepsItsWholeError) {
  std::atomic<int> reverts = 0;
  forward_ = [](JobContext&) {
    throw Error(sqlstate::kUndefinedFile, "gone").detail("Detail.").hint("Hint.");
  };
  back_ = [&](JobContext&) { ++reverts; };
  start();
  const JobId id = submit();
  const Error error = wait_error(id);
  EXPECT_EQ(error.state(), sqlstate::kUndefinedFile);
  EXPECT_EQ(error.message(), "gone");
  EXPECT_EQ(error.detail(), "Detail.");
  EXPECT_EQ(error.hint(), "Hint.");
  EXPECT_EQ(reverts, 1);
  EXPECT_EQ(status(id), JobStatus::Failed);
  ASSERT_EQ(registry_->execution_errors(id).size(), 1U);
}

TEST_F(RunnerTest, AStandardExceptionIsAnInternalError) {
  forward_ = [](JobContext&) { throw std::runtime_error("unexpected"); };
  start();
  EXPECT_EQ(wait_error(submit()).state(), sqlstate::kInternalError);
}

TEST_F(RunnerTest, AJobWhoseRevertFailsIsRevertFailedWithItsFirstError) {
  forward_ = [](JobContext&) { throw Error(sqlstate::kIoError, "first"); };
  back_ = [](JobContext&) { throw Error(sqlstate::kIoError, "second"); };
  start();
  const JobId id = submit();
  EXPECT_EQ(wait_error(id).message(), "first");
  EXPECT_EQ(status(id), JobStatus::RevertFailed);
  EXPECT_NE(registry_->execution_errors(id).back().find("second"), std::string::npos);
}

TEST_F(RunnerTest, RetriesFiveTimesWithoutProgress) {
  std::atomic<int> attempts = 0;
  forward_ = [&](JobContext&) {
    ++attempts;
    throw Error(sqlstate::kIoError, "try again").retry(Retry::Safe);
  };
  start();
  const Error error = wait_error(submit());
  EXPECT_EQ(attempts, 5);
  EXPECT_EQ(error.message(), "exhausted retries: try again");
}

TEST_F(RunnerTest, CountsAttemptsAnewAfterProgress) {
  std::atomic<std::uint64_t> attempts = 0;
  forward_ = [&](JobContext& job) {
    const std::uint64_t attempt = ++attempts;
    job.report({.bytes_done = attempt * 2, .bytes_total = 100, .phase = "copying"});
    if (attempt < 12) throw Error(sqlstate::kIoError, "try again").retry(Retry::Safe);
  };
  start();
  EXPECT_EQ(runner_->wait(submit(), Stop::never()).status, JobStatus::Succeeded);
  EXPECT_EQ(attempts, 12U);
}

TEST_F(RunnerTest, PauseTakesEffectWithinTwoSecondsAndResumeGoesOnFromTheCheckpoint) {
  std::atomic<int> finished_parts = 0;
  forward_ = [&](JobContext& job) {
    if (!job.checkpoint()) {
      ++finished_parts;
      job.save_checkpoint(as_bytes("one"));
      work_until_stopped(job);
    }
    ++finished_parts;
  };
  start();
  const JobId id = submit();
  while (!registry_->checkpoint(id)) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(runner_->pause(id, "lunch"));
  EXPECT_LT(until(id, JobStatus::Paused), 2s);
  EXPECT_EQ(registry_->get(id).pause_reason, "lunch");
  EXPECT_FALSE(runner_->pause(id));
  EXPECT_TRUE(runner_->resume(id));
  runner_->wait(id, Stop::never());
  EXPECT_EQ(finished_parts, 2);
  EXPECT_EQ(registry_->get(id).num_runs, 2);
}

TEST_F(RunnerTest, CancelTakesEffectWithinTwoSecondsAndReverts) {
  std::atomic<int> reverts = 0;
  forward_ = work_until_stopped;
  back_ = [&](JobContext&) { ++reverts; };
  start();
  const JobId id = submit();
  until(id, JobStatus::Running);
  EXPECT_TRUE(runner_->cancel(id));
  EXPECT_LT(until(id, JobStatus::Canceled), 2s);
  EXPECT_EQ(reverts, 1);
  const Error error = wait_error(id);
  EXPECT_EQ(error.state(), sqlstate::kQueryCanceled);
  EXPECT_EQ(error.message(), "job canceled by user");
}

TEST_F(RunnerTest, AnErrorOfWhatWasInterruptedIsNotAFailure) {
  forward_ = [](JobContext& job) {
    try {
      work_until_stopped(job);
    } catch (const Stopped&) {
      throw Error(sqlstate::kConnectionFailure, "transfer aborted");
    }
  };
  start();
  const JobId id = submit();
  until(id, JobStatus::Running);
  runner_->pause(id);
  until(id, JobStatus::Paused);
  EXPECT_FALSE(registry_->get(id).error);
}

TEST_F(RunnerTest, ARevertCanBePausedAndResumed) {
  std::atomic<int> reverts = 0;
  forward_ = [](JobContext&) { throw Error(sqlstate::kIoError, "broken"); };
  back_ = [&](JobContext& job) {
    if (++reverts == 1) work_until_stopped(job);
  };
  start();
  const JobId id = submit();
  while (reverts == 0) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(runner_->pause(id));
  until(id, JobStatus::Paused);
  EXPECT_TRUE(runner_->resume(id));
  EXPECT_EQ(wait_error(id).message(), "broken");
  EXPECT_EQ(reverts, 2);
  EXPECT_EQ(status(id), JobStatus::Failed);
}

TEST_F(RunnerTest, APausedJobCanBeCanceled) {
  std::atomic<int> reverts = 0;
  forward_ = work_until_stopped;
  back_ = [&](JobContext&) { ++reverts; };
  start();
  const JobId id = submit();
  until(id, JobStatus::Running);
  runner_->pause(id);
  until(id, JobStatus::Paused);
  runner_->cancel(id);
  until(id, JobStatus::Canceled);
  EXPECT_EQ(reverts, 1);
}

TEST_F(RunnerTest, StartsJobsInOrderAndNoMoreThanTheLimitAtOnce) {
  std::atomic<int> at_once = 0;
  std::atomic<int> most = 0;
  std::atomic<bool> go = false;
  Mutex mutex;
  std::vector<JobId> order;
  forward_ = [&](JobContext& job) {
    {
      MutexLock lock(mutex);
      order.push_back(job.id());
    }
    const int now = ++at_once;
    if (now > most) most = now;
    while (!go) job.stop().sleep(1ms);
    --at_once;
  };
  start({.concurrency = 2});
  std::vector<JobId> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(submit());
  until(ids[1], JobStatus::Running);
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(status(ids[2]), JobStatus::Pending);
  go = true;
  for (const JobId id : ids) runner_->wait(id, Stop::never());
  EXPECT_EQ(most, 2);
  // The first two may report in either order.
  EXPECT_EQ((std::set<JobId>{order[0], order[1]}), (std::set<JobId>{ids[0], ids[1]}));
  EXPECT_EQ(order.size(), 6U);
}

TEST_F(RunnerTest, AServiceTakesNoSlot) {
  open({.concurrency = 1});
  runner_->register_kind(
      "WAL ARCHIVE", {.make = [this] { return std::make_unique<ScriptedBody>(forward_, back_); },
                      .slot = Slot::None});
  forward_ = work_until_stopped;
  runner_->start();
  const JobId waits_for_nothing = submit("WAL ARCHIVE");
  const JobId takes_the_slot = submit();
  const JobId another = submit("WAL ARCHIVE");
  for (const JobId id : {waits_for_nothing, takes_the_slot, another}) until(id, JobStatus::Running);
}

TEST_F(RunnerTest, AWaitingJobCanBePausedResumedAndCanceled) {
  std::atomic<bool> go = false;
  forward_ = [&](JobContext& job) {
    while (!go) job.stop().sleep(1ms);
  };
  start({.concurrency = 1});
  const JobId first = submit();
  const JobId second = submit();
  const JobId third = submit();
  until(first, JobStatus::Running);
  EXPECT_TRUE(runner_->pause(second));
  EXPECT_EQ(status(second), JobStatus::Paused);
  EXPECT_TRUE(runner_->resume(second));
  EXPECT_EQ(status(second), JobStatus::Running);
  // Reverts do not wait for a slot.
  EXPECT_TRUE(runner_->cancel(third));
  until(third, JobStatus::Canceled);
  go = true;
  runner_->wait(first, Stop::never());
  runner_->wait(second, Stop::never());
  EXPECT_EQ(registry_->get(second).num_runs, 1);
}

TEST_F(RunnerTest, TakesOverWhatADeadProcessLeft) {
  std::atomic<int> forwards = 0;
  std::atomic<int> reverts = 0;
  forward_ = [&](JobContext&) { ++forwards; };
  back_ = [&](JobContext&) { ++reverts; };
  open();
  const JobId pending = left_behind(JobStatus::Pending);
  const JobId running = left_behind(JobStatus::Running);
  const JobId pause_requested = left_behind(JobStatus::PauseRequested);
  const JobId cancel_requested = left_behind(JobStatus::CancelRequested);
  const JobId reverting = left_behind(JobStatus::Reverting);
  start();
  until(pending, JobStatus::Succeeded);
  until(running, JobStatus::Succeeded);
  until(pause_requested, JobStatus::Paused);
  until(cancel_requested, JobStatus::Canceled);
  until(reverting, JobStatus::Failed);
  EXPECT_EQ(forwards, 2);
  EXPECT_EQ(reverts, 2);
  EXPECT_EQ(registry_->get(reverting).error->message(), "broken");
}

TEST_F(RunnerTest, AJobWhoseRecordCannotBeReadKeepsNoOtherFromRunning) {
  open();
  const JobId damaged = left_behind(JobStatus::Running);
  const JobId sound = left_behind(JobStatus::Running);
  {
    state::Transaction transaction(*database_);
    transaction.execute(
        "UPDATE job_blobs SET specification = CAST(specification || x'00' AS BLOB) WHERE job_id = "
        "?",
        {damaged});
    transaction.commit();
  }
  runner_->start();
  until(sound, JobStatus::Succeeded);
  until(damaged, JobStatus::RevertFailed);
  EXPECT_EQ(registry_->get(damaged).error->state(), sqlstate::kDataCorrupted);
  EXPECT_EQ(runner_->wait(submit(), Stop::never()).status, JobStatus::Succeeded);
}

TEST_F(RunnerTest, ShutdownLeavesTheRowAndTheNextStartGoesOn) {
  forward_ = [](JobContext& job) {
    if (job.checkpoint()) return;
    job.save_checkpoint(as_bytes("x"));
    work_until_stopped(job);
  };
  start();
  const JobId id = submit();
  while (!registry_->checkpoint(id)) std::this_thread::sleep_for(1ms);
  const auto begin = std::chrono::steady_clock::now();
  runner_->shutdown();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
  EXPECT_EQ(status(id), JobStatus::Running);
  start();
  runner_->wait(id, Stop::never());
  EXPECT_EQ(registry_->get(id).num_runs, 2);
}

TEST_F(RunnerTest, ACancelInterruptedByShutdownIsFinishedAtTheNextStart) {
  std::atomic<int> reverts = 0;
  forward_ = work_until_stopped;
  back_ = [&](JobContext& job) {
    if (++reverts == 1) work_until_stopped(job);
  };
  start();
  const JobId id = submit();
  until(id, JobStatus::Running);
  runner_->cancel(id);
  until(id, JobStatus::Reverting);
  runner_->shutdown();
  EXPECT_EQ(status(id), JobStatus::Reverting);
  start();
  until(id, JobStatus::Canceled);
}

TEST_F(RunnerTest, AClientThatCancelsItsStatementCancelsTheJob) {
  forward_ = work_until_stopped;
  start();
  const JobId id = submit();
  StopSource client;
  std::jthread canceler([&] {
    until(id, JobStatus::Running);
    client.request(StopReason::Cancel);
  });
  EXPECT_THROW(runner_->wait(id, client.stop()), Stopped);
  EXPECT_LT(until(id, JobStatus::Canceled), 2s);
}

TEST_F(RunnerTest, AClientThatVanishesLeavesTheJobRunning) {
  forward_ = work_until_stopped;
  start();
  const JobId id = submit();
  until(id, JobStatus::Running);
  StopSource client;
  client.request(StopReason::Shutdown);
  EXPECT_THROW(runner_->wait(id, client.stop()), Stopped);
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(status(id), JobStatus::Running);
}

TEST_F(RunnerTest, AWaitingSessionHearsThatTheJobWasPaused) {
  forward_ = work_until_stopped;
  start();
  const JobId id = submit();
  std::jthread pauser([&] {
    until(id, JobStatus::Running);
    runner_->pause(id, "lunch");
  });
  const Error error = wait_error(id);
  EXPECT_EQ(error.state(), sqlstate::kObjectNotInPrerequisiteState);
  EXPECT_EQ(error.message(),
            "job " + std::to_string(id) + " was paused before it completed with reason: lunch");
}

TEST_F(RunnerTest, AFullDiskPausesTheKindsThatWantIt) {
  std::atomic<bool> room = false;
  forward_ = [&](JobContext&) {
    if (!room) throw Error(sqlstate::kDiskFull, "no space");
  };
  start();
  const JobId restore = submit("RESTORE");
  const Error error = wait_error(restore);
  EXPECT_EQ(error.state(), sqlstate::kDiskFull);
  EXPECT_NE(error.hint().find("RESUME JOB"), std::string::npos);
  EXPECT_EQ(status(restore), JobStatus::Paused);
  const JobId backup = submit("BACKUP");
  wait_error(backup);
  EXPECT_EQ(status(backup), JobStatus::Failed);
  room = true;
  runner_->resume(restore);
  EXPECT_EQ(runner_->wait(restore, Stop::never()).status, JobStatus::Succeeded);
}

TEST_F(RunnerTest, ProgressAndNoticesReachTheRowAndTheWaitingSession) {
  std::atomic<bool> heard = false;
  forward_ = [&](JobContext& job) {
    job.notice("hello");
    job.report({.bytes_done = 1 << 20, .bytes_total = 4 << 20, .phase = "copying files"});
    while (!heard) job.stop().sleep(1ms);
  };
  start();
  const JobId id = submit();
  std::vector<std::string> notices;
  std::string progress;
  double fraction = 0;
  runner_->wait(id, Stop::never(),
                {.notice = [&](std::string_view text) { notices.emplace_back(text); },
                 .progress =
                     [&](double completed, std::string_view text) {
                       progress = text;
                       fraction = completed;
                       heard = true;
                     }});
  EXPECT_EQ(notices, std::vector<std::string>{"hello"});
  EXPECT_EQ(progress.substr(0, 34), "copying files: 1.0 MiB of 4.0 MiB");
  EXPECT_EQ(fraction, 0.25);
}

TEST_F(RunnerTest, NoticesOfAJobThatHasEndedAreStillHeard) {
  forward_ = [](JobContext& job) { job.notice("quick"); };
  start();
  const JobId id = submit();
  until(id, JobStatus::Succeeded);
  std::vector<std::string> notices;
  runner_->wait(
      id, Stop::never(),
      {.notice = [&](std::string_view text) { notices.emplace_back(text); }, .progress = {}});
  EXPECT_EQ(notices, std::vector<std::string>{"quick"});
}

TEST_F(RunnerTest, AJobOfAnUnknownTypeFailsWithAClearError) {
  start();
  const JobId id = submit("COMPACTION");
  EXPECT_EQ(wait_error(id).state(), sqlstate::kFeatureNotSupported);
}

TEST_F(RunnerTest, WaitAllEndsWithTheLastJobOrAtItsDeadline) {
  std::atomic<bool> go = false;
  forward_ = [&](JobContext& job) {
    while (!go) job.stop().sleep(1ms);
  };
  start();
  const JobId first = submit();
  const JobId second = submit();
  using Clock = std::chrono::steady_clock;
  EXPECT_FALSE(runner_->wait_all({first, second}, Clock::now() + 30ms, Stop::never()));
  go = true;
  EXPECT_TRUE(runner_->wait_all({first, second}, Clock::now() + 10s, Stop::never()));
  EXPECT_TRUE(runner_->wait_all({12345}, Clock::now(), Stop::never()));
}

TEST_F(RunnerTest, PausePointsPauseFailRetryAndStall) {
  std::atomic<int> passes = 0;
  forward_ = [&](JobContext& job) {
    job.pause_point("first");
    job.pause_point("second");
    job.pause_point("third");
    ++passes;
  };
  const std::filesystem::path go = store_ / "go";
  start({.pause_points = "first=pause,second=retry,third=stall:" + go.string() + ",first=fail@4"});
  const JobId id = submit();
  until(id, JobStatus::Paused);
  runner_->resume(id);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(status(id), JobStatus::Running);
  EXPECT_EQ(passes, 0);
  std::ofstream(go) << "go";
  until(id, JobStatus::Succeeded);
  EXPECT_EQ(registry_->execution_errors(id).size(), 1U);
  const JobId failing = submit();
  EXPECT_EQ(wait_error(failing).message(), "pause point \"first\" failed the job");
}

TEST_F(RunnerTest, AKilledProcessLosesNoJob) {
  forward_ = [](JobContext& job) {
    if (job.checkpoint()) return job.set_result_rows(7);
    job.save_checkpoint(as_bytes("half"));
    job.pause_point("middle");
  };
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    start({.pause_points = "middle=kill"});
    submit();
    pause();
  }
  int end = 0;
  ASSERT_EQ(waitpid(child, &end, 0), child);
  ASSERT_TRUE(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL);
  start();
  const std::vector<Job> jobs = registry_->list({});
  ASSERT_EQ(jobs.size(), 1U);
  EXPECT_EQ(runner_->wait(jobs[0].id, Stop::never()).rows, 7);
}

TEST_F(RunnerTest, ForgetsJobsThatEndedLongAgo) {
  open();
  const JobId id = submit();
  registry_->move(id, JobStatus::Running);
  registry_->succeed(id, 0);
  start({.retention = 0h});
  for (int i = 0; i < 500 && registry_->find(id); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_FALSE(registry_->find(id).has_value());
}

TEST_F(RunnerTest, ARequestForAnUnknownJobIsAnError) {
  start();
  EXPECT_THROW(runner_->pause(42), Error);
  EXPECT_THROW(runner_->wait(42, Stop::never()), Error);
}

}  // namespace
}  // namespace holdfast::jobs
