#include "restore/restore_job.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "restore/testing/restore_lab.h"

namespace holdfast::restore {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Killed;
using testing::LabJob;
using testing::RestoreLab;
using ::testing::StartsWith;

constexpr jobs::JobId kJob = 42;

constexpr const char* kFillPoints[] = {
    "restore.after_checks", "restore.after_create",         "restore.copy",
    "restore.after_copy",   "restore.after_recovery_files", "restore.after_sync",
    "restore.after_control"};
constexpr const char* kSwitchPoints[] = {"restore.before_stop",      "restore.after_stop",
                                         "restore.after_move_aside", "restore.after_move_in",
                                         "restore.after_start",      "restore.after_ready"};

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(sqlstate::kInternalError, "nothing was thrown");
}

bool exists(const std::string& path) { return std::filesystem::exists(path); }

void expect_live_untouched(RestoreLab& lab) {
  EXPECT_TRUE(lab.instance().runs);
  EXPECT_THAT(lab.names("live"), ElementsAre("PG_VERSION", "global", "old"));
  EXPECT_THAT(lab.names("space"), ElementsAre("PG_15_202209061"));
  EXPECT_TRUE(exists(lab.path("space/PG_15_202209061/5/old")));
  EXPECT_THAT(lab.names(""), ElementsAre("live", "space"));
}

/// Whether a server was started on the restored directory when this point is reached.
bool started_at(std::string_view point) {
  return point == "restore.after_start" || point == "restore.after_ready";
}

/// After a revert of a restore that had started a server: what it served is kept.
void expect_live_back(RestoreLab& lab) {
  EXPECT_TRUE(lab.instance().runs);
  EXPECT_THAT(lab.names("live"), ElementsAre("PG_VERSION", "global", "old"));
  EXPECT_THAT(lab.names(""), ElementsAre("live", StartsWith("live.failed-restore-"), "space"));
  EXPECT_THAT(lab.names("space"),
              ElementsAre("PG_15_202209061", StartsWith("PG_15_202209061.failed-restore-")));
  EXPECT_TRUE(exists(lab.path("space/PG_15_202209061/5/old")));
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

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

void write(const std::string& path, std::string_view text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

TEST(RestoreElsewhere, LaysOutEveryFileWhateverTheUmask) {
  RestoreLab lab;
  const mode_t before = ::umask(0077);
  LabJob job(kJob, lab.elsewhere("target"));
  lab.resume(job);
  ::umask(before);
  lab.expect_restored(lab.path("target"), lab.path("space"));
  EXPECT_EQ(job.rows(), 1234);
  EXPECT_EQ(job.progress().bytes_done, job.progress().bytes_total);
  EXPECT_EQ(lab.instance().starts + lab.instance().stops, 0);
}

TEST(RestoreChain, TakesEachBlockFromTheNewestLayerThatHasIt) {
  RestoreLab lab;
  for (unsigned seed = 1; seed <= 12; ++seed) {
    lab.add_incremental(seed);
    if (seed % 4 != 0) continue;
    const std::string target = fmt::format("target{}", seed);
    LabJob job(kJob, lab.elsewhere(target));
    lab.resume(job);
    lab.expect_restored(lab.path(target), lab.path("space"));
    EXPECT_EQ(job.progress().bytes_done, job.progress().bytes_total);
    std::filesystem::remove_all(lab.path("space/PG_15_202209061"));
  }
}

TEST(RestoreChain, GoesOnAfterAKillAndRepairsWhatWasDamaged) {
  RestoreLab lab;
  lab.add_incremental(3);
  lab.add_incremental(4);
  for (const char* point : kFillPoints) {
    LabJob job(kJob, lab.elsewhere("target"));
    job.kill_at(point);
    EXPECT_THROW(lab.resume(job), Killed) << point;
    job.next_attempt();
    lab.resume(job);
    lab.expect_restored(lab.path("target"), lab.path("space"));

    std::fstream file(lab.path("target/base/5/1000"), std::ios::in | std::ios::out);
    file.seekp(3 * 8192 + 17);
    file << "damage";
    file.close();
    auto spec = lab.elsewhere("target");
    spec.set_delta(true);
    LabJob repair(kJob + 1, spec);
    lab.resume(repair);
    lab.expect_restored(lab.path("target"), lab.path("space"));
    std::filesystem::remove_all(lab.path("target"));
    std::filesystem::remove_all(lab.path("space/PG_15_202209061"));
  }
}

TEST(RestoreChain, RefusesAChainThatIsNotWholeBeforeItWrites) {
  RestoreLab lab;
  lab.add_incremental(6);
  lab.store().remove(lab.pack(1), Stop::never());
  LabJob job(kJob, lab.elsewhere("target"));
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_EQ(error.state(), sqlstate::kUndefinedFile);
  EXPECT_FALSE(exists(lab.path("target")));
}

TEST(RestoreElsewhere, MapsTablespaces) {
  RestoreLab lab;
  auto spec = lab.elsewhere("target");
  auto& mapping = *spec.add_tablespace_mapping();
  mapping.set_from("16400");
  mapping.set_to(lab.path("other"));
  write(lab.path("space/somebody"), "else's");
  LabJob job(kJob, spec);
  lab.resume(job);
  lab.expect_restored(lab.path("target"), lab.path("other"));
  std::ifstream map(lab.path("target/tablespace_map"));
  std::string line;
  std::getline(map, line);
  EXPECT_EQ(line, "16400 " + lab.path("other"));
}

TEST(RestoreElsewhere, RefusesATablespaceWhosePlaceIsTaken) {
  RestoreLab lab;
  write(lab.path("space/somebody"), "else's");
  LabJob job(kJob, lab.elsewhere("target"));
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_THAT(error.message(), HasSubstr("exists but is not empty"));
  EXPECT_THAT(error.hint(), HasSubstr("tablespace_mapping = '16400="));
  EXPECT_FALSE(exists(lab.path("target")));
}

TEST(RestoreElsewhere, RefusesAMappingThatNamesNoTablespace) {
  RestoreLab lab;
  auto spec = lab.elsewhere("target");
  auto& mapping = *spec.add_tablespace_mapping();
  mapping.set_from("/nowhere");
  mapping.set_to(lab.path("other"));
  LabJob job(kJob, spec);
  EXPECT_THAT(error_of([&] { lab.resume(job); }).message(), HasSubstr("\"/nowhere\""));
}

TEST(RestoreElsewhere, RefusesADirectoryThatIsNotEmpty) {
  RestoreLab lab;
  write(lab.path("target/mine"), "precious");
  LabJob job(kJob, lab.elsewhere("target"));
  EXPECT_THAT(error_of([&] { lab.resume(job); }).message(),
              AllOf(HasSubstr("target"), HasSubstr("exists but is not empty")));
  lab.revert(job);
  EXPECT_THAT(lab.names("target"), ElementsAre("mine"));
}

TEST(RestoreElsewhere, RefusesTheLiveDirectoryAndWhatLiesInIt) {
  RestoreLab lab;
  lab.make_live();
  for (const char* name : {"live", "live/inside", ""}) {
    auto spec = lab.elsewhere(name);
    spec.set_delta(true);
    LabJob job(kJob, spec);
    EXPECT_THAT(error_of([&] { lab.resume(job); }).message(), HasSubstr("overlaps")) << name;
  }
  expect_live_untouched(lab);
}

TEST(RestoreElsewhere, RefusesOtherVersions) {
  RestoreLab lab;
  lab.instance().major = 14;
  LabJob newer(kJob, lab.elsewhere("target"));
  EXPECT_EQ(error_of([&] { lab.resume(newer); }).message(),
            "backup from version 15 is newer than current version 14");
  lab.instance().major = 16;
  LabJob older(kJob, lab.elsewhere("target"));
  EXPECT_EQ(error_of([&] { lab.resume(older); }).message(),
            "backup from version 15 is older than the minimum restorable version 16");
  EXPECT_FALSE(exists(lab.path("target")));
}

TEST(RestoreElsewhere, NoticesAMissingOrTruncatedPackBeforeItWrites) {
  RestoreLab lab;
  const auto size = lab.store().stat(lab.pack(2), Stop::never())->size;
  Bytes half(size / 2);
  lab.store().get_into(lab.pack(2), 0, half, Stop::never());
  lab.store().put(lab.pack(2), half, storage::PutMode::Overwrite, Stop::never());
  LabJob truncated(kJob, lab.elsewhere("target"));
  EXPECT_THAT(error_of([&] { lab.resume(truncated); }).message(), HasSubstr(lab.pack(2)));
  lab.store().remove(lab.pack(2), Stop::never());
  LabJob missing(kJob, lab.elsewhere("target"));
  EXPECT_THAT(error_of([&] { lab.resume(missing); }).message(),
              AllOf(HasSubstr(lab.pack(2)), HasSubstr("does not exist")));
  EXPECT_FALSE(exists(lab.path("target")));
  EXPECT_FALSE(exists(lab.path("space")));
}

TEST(RestoreElsewhere, NoticesMissingWalBeforeItWrites) {
  RestoreLab lab;
  lab.manifest().mutable_wal(0)->set_segment(6);
  lab.publish();
  LabJob job(kJob, lab.elsewhere("target"));
  EXPECT_THAT(error_of([&] { lab.resume(job); }).message(), HasSubstr("000000010000000000000006"));
  EXPECT_FALSE(exists(lab.path("target")));
}

TEST(RestoreElsewhere, ADamagedPackFailsNamingItAndLeavesNothing) {
  RestoreLab lab;
  Bytes bytes(lab.store().stat(lab.pack(2), Stop::never())->size);
  lab.store().get_into(lab.pack(2), 0, bytes, Stop::never());
  bytes[bytes.size() / 2] ^= std::byte{1};
  lab.store().put(lab.pack(2), bytes, storage::PutMode::Overwrite, Stop::never());
  LabJob job(kJob, lab.elsewhere("target"));
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
  EXPECT_THAT(error.message() + error.detail(), HasSubstr(lab.pack(2)));
  EXPECT_FALSE(exists(lab.path("target/global/pg_control")));
  lab.revert(job);
  EXPECT_THAT(lab.names(""), IsEmpty());
}

TEST(RestoreElsewhere, NoticesAFrameThatNoPackHolds) {
  RestoreLab lab;
  lab.manifest().mutable_packs(0)->add_superseded(2);
  lab.publish();
  LabJob job(kJob, lab.elsewhere("target"));
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("frame 0"), HasSubstr("base/5/1000")));
  EXPECT_FALSE(exists(lab.path("target/global/pg_control")));
}

TEST(RestoreElsewhere, NoticesAFrameThatIsThereTwice) {
  RestoreLab lab;
  lab.manifest().mutable_packs(0)->clear_superseded();
  lab.publish();
  LabJob job(kJob, lab.elsewhere("target"));
  EXPECT_THAT(error_of([&] { lab.resume(job); }).message(), HasSubstr("another one holds too"));
}

TEST(RestoreElsewhere, GoesOnAfterAKillAtEachStep) {
  for (const char* point : kFillPoints) {
    SCOPED_TRACE(point);
    RestoreLab lab;
    LabJob job(kJob, lab.elsewhere("target"));
    job.kill_at(point);
    EXPECT_THROW(lab.resume(job), Killed);
    EXPECT_EQ(exists(lab.path("target/global/pg_control")),
              std::string_view(point) == "restore.after_control");
    job.next_attempt();
    lab.resume(job);
    lab.expect_restored(lab.path("target"), lab.path("space"));
  }
}

TEST(RestoreElsewhere, ACancelAtEachStepLeavesNothing) {
  for (const char* point : kFillPoints) {
    SCOPED_TRACE(point);
    RestoreLab lab;
    LabJob job(kJob, lab.elsewhere("target"));
    job.stop_at(point, StopReason::Cancel);
    EXPECT_THROW(lab.resume(job), Stopped);
    job.next_attempt();
    lab.revert(job);
    lab.revert(job);
    EXPECT_THAT(lab.names(""), IsEmpty());
  }
}

TEST(RestoreElsewhere, AResumedJobDoesNotFetchWhatIsInPlace) {
  RestoreLab lab;
  LabJob job(kJob, lab.elsewhere("target"));
  job.kill_at("restore.after_copy");
  EXPECT_THROW(lab.resume(job), Killed);
  const auto writes = lab.files().calls(io::FileCall::Write);
  job.next_attempt();
  lab.resume(job);
  lab.expect_restored(lab.path("target"), lab.path("space"));
  // WAL, the recovery files, markers, pg_control and the two files that those change.
  EXPECT_LT(lab.files().calls(io::FileCall::Write) - writes, 14U);
}

TEST(RestoreElsewhere, ADiskThatFillsUpFailsTheJobAndLeavesNothing) {
  RestoreLab lab;
  lab.files().add({.call = io::FileCall::Write, .nth = 5, .times = 1000, .error_number = ENOSPC});
  LabJob job(kJob, lab.elsewhere("target"));
  EXPECT_EQ(error_of([&] { lab.resume(job); }).state(), sqlstate::kDiskFull);
  EXPECT_FALSE(exists(lab.path("target/global/pg_control")));
  lab.revert(job);
  EXPECT_THAT(lab.names(""), IsEmpty());
}

TEST(RestoreElsewhere, ABackupThatDoesNotFitIsRefusedWithNumbers) {
  RestoreLab lab;
  lab.manifest().mutable_files(1)->set_size(1ULL << 60);
  lab.publish();
  LabJob job(kJob, lab.elsewhere("target"));
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_EQ(error.state(), sqlstate::kDiskFull);
  EXPECT_THAT(error.detail(), HasSubstr(" bytes are available"));
  EXPECT_FALSE(exists(lab.path("target")));
}

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

TEST(RestoreElsewhere, AMarkThatWasBeingWrittenAtAKillIsInNobodysWay) {
  for (const bool canceled : {false, true}) {
    RestoreLab lab;
    LabJob job(kJob, lab.elsewhere("target"));
    job.kill_after_save(
        [](const auto& saved) { return saved.phase() == proto::RESTORE_PHASE_FILL; });
    EXPECT_THROW(lab.resume(job), Killed);
    job.next_attempt();
    write(lab.path("target/.holdfast-restore.0123abcd.tmp"), "restore jo");
    if (canceled) {
      lab.revert(job);
      EXPECT_THAT(lab.names(""), IsEmpty());
      continue;
    }
    lab.resume(job);
    lab.expect_restored(lab.path("target"), lab.path("space"));
  }
}

TEST(RestoreElsewhere, WritesEverythingAgainAfterASyncThatFailed) {
  RestoreLab lab;
  lab.files().add({.call = io::FileCall::SyncAll, .nth = 1, .error_number = ENOSPC});
  LabJob job(kJob, lab.elsewhere("target"));
  EXPECT_EQ(error_of([&] { lab.resume(job); }).state(), sqlstate::kDiskFull);
  const auto writes = lab.files().calls(io::FileCall::Write);
  // Killed before its sync, it still knows of the one that failed.
  job.next_attempt();
  job.kill_at("restore.after_copy");
  EXPECT_THROW(lab.resume(job), Killed);
  const auto again = lab.files().calls(io::FileCall::Write) - writes;
  job.next_attempt();
  lab.resume(job);
  lab.expect_restored(lab.path("target"), lab.path("space"));
  EXPECT_GE(lab.files().calls(io::FileCall::Write) - writes, 2 * again);
  std::size_t frames = 0;
  for (const auto& [name, bytes] : lab.content()) {
    if (name != "global/pg_control") frames += (bytes.size() + (1U << 20) - 1) >> 20;
  }
  EXPECT_GE(again, frames);
}

TEST(RestoreInPlace, ReplacesTheLiveDirectoryAndKeepsTheOldOne) {
  RestoreLab lab;
  lab.make_live();
  LabJob job(kJob, lab.in_place());
  lab.resume(job);
  // Nothing has started on it really, so the recovery files are still there.
  lab.expect_restored(lab.path("live"), lab.path("space"));
  EXPECT_TRUE(lab.instance().runs);
  EXPECT_EQ(lab.instance().stops, 1);
  EXPECT_THAT(lab.names(""), ElementsAre("live", StartsWith("live.before-restore-"), "space"));
  EXPECT_TRUE(exists(lab.path(lab.names("")[1] + "/old")));
  EXPECT_THAT(lab.names("space"),
              ElementsAre("PG_15_202209061", StartsWith("PG_15_202209061.before-restore-")));
  EXPECT_THAT(job.notices(), Contains(HasSubstr("live.before-restore-")));
  std::ifstream conf(lab.path("live/postgresql.auto.conf"));
  const std::string text{std::istreambuf_iterator<char>(conf), {}};
  EXPECT_EQ(text, "work_mem = '5MB'\n");
}

TEST(RestoreInPlace, BringsBackADirectoryThatIsGone) {
  RestoreLab lab;
  LabJob job(kJob, lab.in_place());
  lab.resume(job);
  lab.expect_restored(lab.path("live"), lab.path("space"));
  EXPECT_TRUE(lab.instance().runs);
  EXPECT_THAT(lab.names(""), ElementsAre("live", "space"));
}

TEST(RestoreInPlace, RefusesAClusterWithUserObjects) {
  RestoreLab lab;
  lab.make_live();
  lab.instance().objects = {"bank", "postgres.public.t"};
  LabJob job(kJob, lab.in_place());
  EXPECT_EQ(error_of([&] { lab.resume(job); }).message(),
            "full cluster restore can only be run on a cluster with no tables or databases but "
            "found 2 descriptors: bank, postgres.public.t");
  lab.revert(job);
  expect_live_untouched(lab);
}

TEST(RestoreInPlace, LooksForUserObjectsAgainBeforeItStopsTheServer) {
  RestoreLab lab;
  lab.make_live();
  LabJob job(kJob, lab.in_place());
  job.kill_at("restore.after_control");
  EXPECT_THROW(lab.resume(job), Killed);
  lab.instance().objects = {"bank"};
  job.next_attempt();
  EXPECT_THAT(error_of([&] { lab.resume(job); }).message(), HasSubstr("bank"));
  lab.revert(job);
  EXPECT_EQ(lab.instance().stops, 0);
  expect_live_untouched(lab);
}

TEST(RestoreInPlace, RefusesAClusterThatCannotBeAsked) {
  RestoreLab lab;
  lab.make_live();
  lab.instance().runs = false;
  LabJob job(kJob, lab.in_place());
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_THAT(error.message(), HasSubstr("because PostgreSQL is not running"));
  EXPECT_THAT(error.hint(), HasSubstr("move the directory away"));
}

TEST(RestoreInPlace, GoesOnAfterAKillAtEachStep) {
  std::vector<std::string> points(std::begin(kFillPoints), std::end(kFillPoints));
  points.insert(points.end(), std::begin(kSwitchPoints), std::end(kSwitchPoints));
  for (const std::string& point : points) {
    SCOPED_TRACE(point);
    RestoreLab lab;
    lab.make_live();
    LabJob job(kJob, lab.in_place());
    job.kill_at(point);
    EXPECT_THROW(lab.resume(job), Killed);
    job.next_attempt();
    lab.resume(job);
    lab.expect_restored(lab.path("live"), lab.path("space"));
    EXPECT_TRUE(lab.instance().runs);
    EXPECT_THAT(lab.names(""), ElementsAre("live", StartsWith("live.before-restore-"), "space"));
    EXPECT_TRUE(exists(lab.path(lab.names("")[1] + "/old")));
  }
}

TEST(RestoreInPlace, ACancelAtEachStepPutsTheOldDirectoryBack) {
  std::vector<std::string> points(std::begin(kFillPoints), std::end(kFillPoints));
  points.insert(points.end(), std::begin(kSwitchPoints), std::end(kSwitchPoints));
  for (const std::string& point : points) {
    if (started_at(point)) continue;
    SCOPED_TRACE(point);
    RestoreLab lab;
    lab.make_live();
    LabJob job(kJob, lab.in_place());
    job.stop_at(point, StopReason::Cancel);
    EXPECT_THROW(lab.resume(job), Stopped);
    job.next_attempt();
    lab.revert(job);
    expect_live_untouched(lab);
    lab.revert(job);
    expect_live_untouched(lab);
  }
}

TEST(RestoreInPlace, WhatAServerWasStartedOnIsKeptByACancel) {
  for (const StopReason reason : {StopReason::Cancel, StopReason::Pause}) {
    for (const char* point : kSwitchPoints) {
      if (!started_at(point)) continue;
      SCOPED_TRACE(fmt::format("{} {}", point, static_cast<int>(reason)));
      RestoreLab lab;
      lab.make_live();
      LabJob job(kJob, lab.in_place());
      job.stop_at(point, reason);
      EXPECT_THROW(lab.resume(job), Stopped);
      // A user's, who found the server answering.
      write(lab.path("live/committed"), "a row");
      write(lab.path("space/PG_15_202209061/5/committed"), "another");
      job.next_attempt();
      for (int repeat = 0; repeat < 2; ++repeat) {
        lab.revert(job);
        expect_live_back(lab);
        EXPECT_EQ(content_of(lab.path(lab.names("")[1] + "/committed")), "a row");
        EXPECT_EQ(content_of(lab.path("space/" + lab.names("space")[1] + "/5/committed")),
                  "another");
        EXPECT_THAT(job.notices(), Contains(HasSubstr(lab.path(lab.names("")[1]))));
      }
    }
  }
}

TEST(RestoreInPlace, AServerThatHoldfastCannotLogInToIsRestoredAllTheSame) {
  RestoreLab lab;
  lab.make_live();
  lab.instance().login_refused = "could not connect to PostgreSQL: no password supplied";
  LabJob job(kJob, lab.in_place());
  lab.resume(job);
  lab.expect_restored(lab.path("live"), lab.path("space"));
  EXPECT_THAT(job.notices(),
              Contains(AllOf(HasSubstr("cannot log in"), HasSubstr("no password supplied"))));
}

TEST(RestoreInPlace, ARevertGoesOnAfterAKill) {
  for (const std::uint32_t step : {1U, 2U}) {
    for (const char* stage : kSwitchPoints) {
      const std::string_view point(stage);
      if (point == "restore.before_stop" || point == "restore.after_stop") continue;
      SCOPED_TRACE(fmt::format("{} {}", stage, step));
      RestoreLab lab;
      lab.make_live();
      LabJob job(kJob, lab.in_place());
      job.kill_at(stage);
      EXPECT_THROW(lab.resume(job), Killed);
      job.next_attempt();
      job.kill_after_save([&](const auto& saved) { return saved.revert_step() == step; });
      EXPECT_THROW(lab.revert(job), Killed);
      job.next_attempt();
      lab.revert(job);
      // The phase that says "started" is saved right behind the move.
      started_at(point) ? expect_live_back(lab) : expect_live_untouched(lab);
    }
  }
}

TEST(RestoreInPlace, OnceCompleteItStaysAndOnlyTracesAreRemoved) {
  for (const bool canceled : {false, true}) {
    RestoreLab lab;
    lab.make_live();
    LabJob job(kJob, lab.in_place());
    job.kill_after_save(
        [](const auto& saved) { return saved.phase() == proto::RESTORE_PHASE_COMPLETE; });
    EXPECT_THROW(lab.resume(job), Killed);
    job.next_attempt();
    if (canceled) {
      lab.revert(job);
    } else {
      lab.resume(job);
    }
    lab.expect_restored(lab.path("live"), lab.path("space"));
    EXPECT_TRUE(lab.instance().runs);
  }
}

TEST(RestoreElsewhere, OnceCompleteItStaysAndOnlyTracesAreRemoved) {
  for (const bool canceled : {false, true}) {
    RestoreLab lab;
    LabJob job(kJob, lab.elsewhere("target"));
    job.kill_after_save(
        [](const auto& saved) { return saved.phase() == proto::RESTORE_PHASE_COMPLETE; });
    EXPECT_THROW(lab.resume(job), Killed);
    job.next_attempt();
    if (canceled) {
      lab.revert(job);
    } else {
      lab.resume(job);
    }
    lab.expect_restored(lab.path("target"), lab.path("space"));
  }
}

TEST(RestoreInPlace, AServerThatDoesNotStartGivesTheOldDirectoryBack) {
  RestoreLab lab;
  lab.make_live();
  lab.instance().fails_on = "recovery.signal";
  LabJob job(kJob, lab.in_place());
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_THAT(error.message(),
              StartsWith("PostgreSQL did not start on the restored data directory"));
  EXPECT_THAT(error.detail(),
              AllOf(HasSubstr("the log's last line"), HasSubstr("live.before-restore-"),
                    HasSubstr("live.failed-restore-")));
  for (int repeat = 0; repeat < 2; ++repeat) {
    lab.revert(job);
    EXPECT_TRUE(lab.instance().runs);
    EXPECT_TRUE(exists(lab.path("live/old")));
    EXPECT_TRUE(exists(lab.path("space/PG_15_202209061/5/old")));
    EXPECT_THAT(lab.names(""), ElementsAre("live", StartsWith("live.failed-restore-"), "space"));
    EXPECT_TRUE(exists(lab.path(lab.names("")[1] + "/backup_label")));
  }
}

TEST(RestoreInPlace, ADamagedPackLeavesTheLiveDirectoryAlone) {
  RestoreLab lab;
  lab.make_live();
  lab.store().add({.call = storage::StoreCall::Get,
                   .kind = storage::FaultKind::Flip,
                   .key_pattern = lab.pack(3),
                   .nth = 1,
                   .times = 100,
                   .position = 100});
  LabJob job(kJob, lab.in_place());
  EXPECT_EQ(error_of([&] { lab.resume(job); }).state(), sqlstate::kDataCorrupted);
  lab.revert(job);
  EXPECT_EQ(lab.instance().stops, 0);
  expect_live_untouched(lab);
}

TEST(RestoreInPlace, ALinkAsDataDirectoryStaysALink) {
  RestoreLab lab;
  lab.make_live();
  std::filesystem::rename(lab.path("live"), lab.path("real"));
  std::filesystem::create_directory_symlink("real", lab.path("live"));
  LabJob job(kJob, lab.in_place());
  lab.resume(job);
  EXPECT_TRUE(std::filesystem::is_symlink(lab.path("live")));
  lab.expect_restored(lab.path("real"), lab.path("space"));
}

}  // namespace
}  // namespace holdfast::restore
