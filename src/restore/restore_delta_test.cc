#include "restore/restore_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "restore/testing/lab_checks.h"
#include "restore/testing/restore_lab.h"

namespace holdfast::restore {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using testing::exists;
using ::testing::HasSubstr;
using testing::Killed;
using testing::kJob;
using testing::LabJob;
using testing::RestoreLab;
using testing::write;

/// As far as postmaster.pid and /proc tell, a server that runs on a directory.
class FakePostmaster {
 public:
  explicit FakePostmaster(const std::string& directory) : pid_file_(directory + "/postmaster.pid") {
    int ready[2];
    EXPECT_EQ(::pipe(ready), 0);
    process_ = ::fork();
    if (process_ == 0) {
      const bool set_up = ::chdir(directory.c_str()) == 0 && ::prctl(PR_SET_NAME, "postgres") == 0;
      (void)!::write(ready[1], set_up ? "y" : "n", 1);
      while (true) ::pause();
    }
    char answer = 'n';
    EXPECT_EQ(::read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    ::close(ready[0]);
    ::close(ready[1]);
    std::ofstream(pid_file_) << process_ << "\n" << directory << "\n1700000000\n5432\n";
  }
  ~FakePostmaster() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    std::filesystem::remove(pid_file_);
  }
  FakePostmaster(const FakePostmaster&) = delete;
  FakePostmaster& operator=(const FakePostmaster&) = delete;

 private:
  const std::string pid_file_;
  pid_t process_ = -1;
};

TEST(RestoreDelta, MakesADirectoryEqualToTheBackup) {
  RestoreLab lab;
  LabJob first(kJob, lab.elsewhere("target"));
  lab.resume(first);
  const std::string target = lab.path("target");
  write(target + "/base/5/extra", "not in the backup");
  write(target + "/pg_log/today", "neither");
  write(target + "/base/5/1003", "wrong size and content");
  std::filesystem::remove(target + "/PG_VERSION");
  std::filesystem::resize_file(target + "/base/5/1000", 12 << 20);
  {
    std::fstream file(target + "/base/5/1000", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(2'500'000);
    file << "damage";
  }
  std::filesystem::remove(target + "/base/5/1002");
  std::filesystem::create_directory(target + "/base/5/1002");
  write(lab.path("space/PG_15_202209061/5/extra"), "not in the backup");

  auto spec = lab.elsewhere("target");
  spec.set_delta(true);
  LabJob second(kJob + 1, spec);
  lab.resume(second);
  lab.expect_restored(target, lab.path("space"));
  EXPECT_FALSE(exists(lab.path("space/PG_15_202209061/5/extra")));
}

TEST(RestoreDelta, RemovesNothingInADirectoryOfSomebodyElse) {
  RestoreLab lab;
  write(lab.path("target/mine"), "precious");
  auto spec = lab.elsewhere("target");
  spec.set_delta(true);
  LabJob job(kJob, spec);
  EXPECT_THAT(error_of([&] { lab.resume(job); }).message(),
              HasSubstr("neither empty nor a PostgreSQL data directory"));
  lab.revert(job);
  EXPECT_THAT(lab.names("target"), ElementsAre("mine"));
}

TEST(RestoreDelta, RefusesTheDirectoryOfAnotherCluster) {
  RestoreLab lab;
  LabJob first(kJob, lab.elsewhere("target"));
  lab.resume(first);
  lab.manifest().mutable_instance()->set_system_identifier(4711);
  lab.publish();
  auto spec = lab.elsewhere("target");
  spec.set_delta(true);
  LabJob job(kJob, spec);
  EXPECT_THAT(error_of([&] { lab.resume(job); }).message(),
              HasSubstr("belongs to another cluster"));
}

TEST(RestoreDelta, GoesOnWhereAnotherJobStopped) {
  RestoreLab lab;
  LabJob first(kJob, lab.elsewhere("target"));
  first.kill_at("restore.after_copy");
  EXPECT_THROW(lab.resume(first), Killed);
  auto spec = lab.elsewhere("target");
  spec.set_delta(true);
  LabJob second(kJob + 1, spec);
  lab.resume(second);
  lab.expect_restored(lab.path("target"), lab.path("space"));
}

TEST(RestoreDelta, LeavesADirectoryToTheJobThatFillsIt) {
  for (const char* point : {"restore.after_create", "restore.copy", "restore.after_sync"}) {
    SCOPED_TRACE(point);
    RestoreLab lab;
    auto spec = lab.elsewhere("target");
    spec.set_delta(true);
    LabJob first(kJob, spec);
    first.kill_at(point);
    EXPECT_THROW(lab.resume(first), Killed);
    lab.unfinished = {kJob};
    LabJob second(kJob + 1, spec);
    const Error error = error_of([&] { lab.resume(second); });
    EXPECT_EQ(error.state(), sqlstate::kObjectInUse);
    EXPECT_THAT(error.message(), HasSubstr("is being filled by restore job 42"));
    EXPECT_THAT(error.hint(), HasSubstr("CANCEL JOB 42"));
    lab.revert(second);
    first.next_attempt();
    lab.resume(first);
    lab.expect_restored(lab.path("target"), lab.path("space"));
  }
}

TEST(RestoreDelta, OfTwoJobsThatBothFoundADirectoryFreeOneGetsIt) {
  RestoreLab lab;
  lab.unfinished = {kJob, kJob + 1};
  auto spec = lab.elsewhere("target");
  spec.set_delta(true);
  LabJob first(kJob, spec);
  LabJob second(kJob + 1, spec);
  for (LabJob* job : {&first, &second}) {
    job->kill_at("restore.after_checks");
    EXPECT_THROW(lab.resume(*job), Killed);
    // The checks are done again unless the phase was saved.
    job->next_attempt();
    job->kill_after_save(
        [](const auto& saved) { return saved.phase() == proto::RESTORE_PHASE_FILL; });
    EXPECT_THROW(lab.resume(*job), Killed);
    job->next_attempt();
  }
  first.kill_at("restore.copy");
  EXPECT_THROW(lab.resume(first), Killed);
  EXPECT_EQ(error_of([&] { lab.resume(second); }).state(), sqlstate::kObjectInUse);
  lab.revert(second);
  first.next_attempt();
  lab.resume(first);
  lab.expect_restored(lab.path("target"), lab.path("space"));
}

TEST(RestoreDelta, FillsNoDirectoryThatAServerWasStartedOnMeanwhile) {
  RestoreLab lab;
  const std::string target = lab.path("target");
  LabJob first(kJob, lab.elsewhere("target"));
  lab.resume(first);
  auto spec = lab.elsewhere("target");
  spec.set_delta(true);
  LabJob second(kJob + 1, spec);
  second.kill_after_save(
      [](const auto& saved) { return saved.phase() == proto::RESTORE_PHASE_FILL; });
  EXPECT_THROW(lab.resume(second), Killed);
  second.next_attempt();
  write(target + "/base/5/new", "of the server that runs");
  {
    const FakePostmaster server(target);
    const Error error = error_of([&] { lab.resume(second); });
    EXPECT_EQ(error.state(), sqlstate::kObjectInUse);
    EXPECT_THAT(error.message(), HasSubstr("runs on"));
    EXPECT_TRUE(exists(target + "/base/5/new"));
    EXPECT_TRUE(exists(target + "/global/pg_control"));
  }
  lab.resume(second);
  lab.expect_restored(target, lab.path("space"));
}

TEST(RestoreDelta, WritesNoControlFileWhereTheMarkIsGone) {
  RestoreLab lab;
  LabJob job(kJob, lab.elsewhere("target"));
  job.kill_at("restore.after_sync");
  EXPECT_THROW(lab.resume(job), Killed);
  job.next_attempt();
  std::filesystem::remove(lab.path("target/.holdfast-restore"));
  EXPECT_THAT(error_of([&] { lab.resume(job); }).message(), HasSubstr("was changed"));
  EXPECT_FALSE(exists(lab.path("target/global/pg_control")));
}

}  // namespace
}  // namespace holdfast::restore
