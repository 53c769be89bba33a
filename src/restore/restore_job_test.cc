#include "restore/restore_job.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "restore/testing/lab_checks.h"
#include "restore/testing/restore_lab.h"

namespace holdfast::restore {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using testing::exists;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kFillPoints;
using testing::Killed;
using testing::kJob;
using testing::LabJob;
using testing::RestoreLab;
using testing::write;

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

TEST(RestoreElsewhere, OnceCompleteItStaysAndOnlyTracesAreRemoved) {
  for (const bool canceled : {false, true}) {
    RestoreLab lab;
    LabJob job(kJob, lab.elsewhere("target"));
    go_on_when_complete(lab, job, canceled);
    lab.expect_restored(lab.path("target"), lab.path("space"));
  }
}

}  // namespace
}  // namespace holdfast::restore
