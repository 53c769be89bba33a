#include "restore/restore_job.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "restore/testing/lab_checks.h"
#include "restore/testing/restore_lab.h"

namespace holdfast::restore {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::error_of;
using testing::exists;
using ::testing::HasSubstr;
using testing::kFillPoints;
using testing::Killed;
using testing::kJob;
using testing::kSwitchPoints;
using testing::LabJob;
using testing::RestoreLab;
using ::testing::StartsWith;
using testing::write;

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
    go_on_when_complete(lab, job, canceled);
    lab.expect_restored(lab.path("live"), lab.path("space"));
    EXPECT_TRUE(lab.instance().runs);
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
