#include "retention/retention_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backup_job.pb.h"
#include "collection/deletion_marks.h"
#include "restore_job.pb.h"
#include "retention/in_use.h"
#include "retention/restore_guard.h"
#include "retention/testing/retention_lab.h"

namespace holdfast::retention {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::LabJob;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;
using namespace std::chrono_literals;

class RetentionJobTest : public ::testing::Test {
 protected:
  /// Three chains, a day between them; the first has two incrementals.
  RetentionJobTest() {
    first_ = lab_.full(10, 11);
    lab_.incremental(first_, 12, 12);
    lab_.incremental(first_, 13, 13);
    lab_.clock.advance(24h);
    second_ = lab_.full(14, 15);
    lab_.clock.advance(24h);
    third_ = lab_.full(16, 17);
    lab_.clock.advance(1h);
  }

  proto::RetentionJobSpec older(std::chrono::hours age) {
    return lab_.older_than(lab_.clock.now() - age);
  }

  testing::RetentionLab lab_;
  std::string first_;
  std::string second_;
  std::string third_;
  Stop stop_ = Stop::never();
};

TEST_F(RetentionJobTest, DeletesWholeChainsThatAreOlder) {
  EXPECT_THAT(lab_.run(older(30h)),
              UnorderedElementsAre(Pair(first_, StartsWith("deleted: older than")),
                                   Pair(second_, StartsWith("kept: not older than")),
                                   Pair(third_, StartsWith("kept: not older than")),
                                   Pair("wal/42", "deleted: no backup here needs it")));
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_, third_));
  EXPECT_THAT(lab_.objects(first_), IsEmpty());
  EXPECT_THAT(lab_.objects(collection::incrementals_of(first_)), IsEmpty());
  EXPECT_THAT(lab_.objects("metadata/retention"), IsEmpty());
  EXPECT_THAT(lab_.wal(), ElementsAre(14, 15, 16, 17));
  EXPECT_THAT(lab_.broken(), IsEmpty());
}

TEST_F(RetentionJobTest, TheNewestLayerDecidesHowOldAChainIs) {
  lab_.incremental(first_, 18, 18);
  EXPECT_THAT(lab_.run(older(20h)), Contains(Pair(second_, StartsWith("deleted:"))));
  EXPECT_THAT(lab_.fulls(), ElementsAre(first_, third_));
}

TEST_F(RetentionJobTest, KeepsTheNewestFulls) {
  lab_.run(lab_.keep(2));
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_, third_));
  lab_.run(lab_.keep(2));
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_, third_));
}

TEST_F(RetentionJobTest, TheLastChainStays) {
  EXPECT_THAT(lab_.run(lab_.older_than(lab_.clock.now() + 1h)),
              Contains(Pair(third_, "kept: the last backup that can be restored")));
  EXPECT_THAT(lab_.fulls(), ElementsAre(third_));
  EXPECT_THAT(lab_.broken(), IsEmpty());
}

TEST_F(RetentionJobTest, AnotherStaysWhenTheNewestIsDamaged) {
  lab_.store.remove(collection::pack_key(third_, 1), stop_);
  lab_.store.remove(collection::wal_key(42, 1, 14, lab_.kSegmentBytes), stop_);
  lab_.run(lab_.older_than(lab_.clock.now() + 1h));
  EXPECT_THAT(lab_.fulls(), Contains(first_));
  EXPECT_EQ(lab_.latest(), first_);
}

TEST_F(RetentionJobTest, ABackupOfADatabaseIsNoOtherOfTheCluster) {
  const std::string database = lab_.full_of_database(30, 30);
  for (const std::string& damaged : {second_, third_}) {
    const auto manifest = collection::read_manifest(lab_.store, damaged, stop_);
    lab_.store.remove(collection::wal_key(42, 1, manifest->wal(0).segment(), lab_.kSegmentBytes),
                      stop_);
  }
  EXPECT_THAT(lab_.run(lab_.keep(1)),
              Contains(Pair(first_, "kept: the last backup that can be restored")));
  EXPECT_THAT(lab_.fulls(), ::testing::IsSupersetOf({first_, database}));
}

TEST_F(RetentionJobTest, LatestMovesBeforeItsChainGoes) {
  collection::write_latest(lab_.store, first_, lab_.clock.now(), stop_);
  LabJob job(lab_.registry(), lab_.create(older(30h)));
  job.at_point = [&](std::string_view point) {
    if (point != "retention.manifest") return;
    EXPECT_EQ(lab_.latest(), third_);
  };
  lab_.resume(job);
  EXPECT_EQ(lab_.latest(), third_);
}

TEST_F(RetentionJobTest, LatestEndsAtABackupThatFinishesMeanwhile) {
  collection::write_latest(lab_.store, first_, lab_.clock.now(), stop_);
  LabJob job(lab_.registry(), lab_.create(older(30h)));
  std::string fourth;
  job.at_point = [&](std::string_view point) {
    if (point == "retention.after_mark") fourth = lab_.full(20, 20);
  };
  lab_.resume(job);
  EXPECT_EQ(lab_.latest(), fourth);
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_, third_, fourth));
  EXPECT_THAT(lab_.broken(), IsEmpty());
}

TEST_F(RetentionJobTest, ChainsOfUnfinishedRestoresAndBackupsStay) {
  restore::proto::RestoreJobSpec restore;
  restore.set_subdirectory(collection::list_layers(lab_.store, first_, stop_)[1]);
  const auto restoring = lab_.create_job(jobs::kRestoreType, restore);
  backup::proto::BackupJobSpec backup;
  backup.set_full(second_);
  backup.set_subdirectory(collection::incremental_directory(second_, lab_.clock.now()));
  const auto backing = lab_.create_job(jobs::kBackupType, backup);
  lab_.run(older(20h));
  EXPECT_THAT(lab_.fulls(), ElementsAre(first_, second_, third_));
  lab_.registry().succeed(restoring, 0);
  lab_.registry().succeed(backing, 0);
  lab_.run(older(20h));
  EXPECT_THAT(lab_.fulls(), ElementsAre(third_));
}

TEST_F(RetentionJobTest, ARestoreThatBeginsMeanwhileIsSeenOrRefused) {
  restore::proto::RestoreJobSpec spec;
  spec.set_subdirectory(first_);
  for (const char* moment : {"retention.after_decision", "retention.after_checkpoint"}) {
    LabJob job(lab_.registry(), lab_.create(older(30h)));
    jobs::JobId restoring = 0;
    job.at_point = [&](std::string_view point) {
      if (point == moment) restoring = lab_.create_job(jobs::kRestoreType, spec);
    };
    lab_.resume(job);
    EXPECT_THAT(lab_.rows(job.id()), Contains(Pair(first_, HasSubstr("kept: restore job"))));
    EXPECT_THAT(lab_.objects(first_ + "/deleting"), IsEmpty());
    lab_.registry().succeed(restoring, 0);
    lab_.registry().succeed(job.id(), 0);
  }
  LabJob job(lab_.registry(), lab_.create(older(30h)));
  bool refused = false;
  job.at_point = [&](std::string_view point) {
    if (point != "retention.manifest" || refused) return;
    LabJob restoring(lab_.registry(), lab_.create_job(jobs::kRestoreType, spec));
    GuardedRestore body(nullptr, lab_.registry());
    EXPECT_THROW(body.resume(restoring), Error);
    require_not_being_deleted(lab_.registry(), second_);
    refused = true;
  };
  lab_.resume(job);
  EXPECT_TRUE(refused);
}

TEST_F(RetentionJobTest, ABackupIntoTheChainIsSeenOrRefused) {
  const auto layer = collection::incremental_directory(first_, lab_.clock.now());
  const jobs::JobId elsewhere = lab_.create({}) + 1;  // nobody here knows it
  LabJob job(lab_.registry(), lab_.create(older(30h)));
  job.at_point = [&](std::string_view point) {
    if (point != "retention.after_mark") return;
    collection::take_lock(lab_.store, layer, elsewhere, stop_);
    EXPECT_THROW(collection::require_not_deleted(lab_.store, first_, stop_), Error);
  };
  lab_.resume(job);
  EXPECT_THAT(lab_.rows(job.id()), Contains(Pair(first_, HasSubstr("has a lock in it"))));
  EXPECT_THAT(lab_.fulls(), ElementsAre(first_, second_, third_));
  collection::require_not_deleted(lab_.store, first_, stop_);
  lab_.registry().succeed(job.id(), 0);
  // Nothing was heard of it for long.
  lab_.clock.advance(100h);
  lab_.run(older(130h));
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_, third_));
  EXPECT_THAT(lab_.objects(layer), IsEmpty());
}

TEST_F(RetentionJobTest, ALayerThatWasAddedMeanwhileKeepsTheChain) {
  LabJob job(lab_.registry(), lab_.create(older(30h)));
  job.at_point = [&](std::string_view point) {
    if (point == "retention.after_decision") lab_.incremental(first_, 20, 20);
  };
  lab_.resume(job);
  EXPECT_THAT(lab_.rows(job.id()), Contains(Pair(first_, "kept: a layer was added meanwhile")));
  EXPECT_THAT(lab_.broken(), IsEmpty());
}

TEST_F(RetentionJobTest, TwoJobsExcludeEachOther) {
  LabJob job(lab_.registry(), lab_.create(older(30h)));
  bool refused = false;
  job.at_point = [&](std::string_view point) {
    if (point != "retention.after_lock") return;
    LabJob other(lab_.registry(), lab_.create(older(30h)));
    EXPECT_THROW(lab_.resume(other), Error);
    lab_.revert(other);
    refused = true;
  };
  lab_.resume(job);
  EXPECT_TRUE(refused);
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_, third_));
}

TEST_F(RetentionJobTest, WhatTheStorageRefusesIsTriedAgain) {
  lab_.forbid_removals("*");
  const auto rows = lab_.run(older(30h));
  EXPECT_THAT(rows, Contains(Pair(first_, StartsWith("not yet:"))));
  EXPECT_THAT(lab_.fulls(), ElementsAre(first_, second_, third_));
  collection::require_not_deleted(lab_.store, first_, stop_);
  EXPECT_THAT(lab_.broken(), IsEmpty());
  EXPECT_THAT(lab_.run(older(30h)), Contains(Pair(first_, StartsWith("not yet:"))));
}

TEST_F(RetentionJobTest, DataThatIsLockedIsRemovedWhenItMay) {
  lab_.store.add({.call = storage::StoreCall::Remove,
                  .key_pattern = first_ + "/data/*",
                  .times = 1,
                  .error = Error(sqlstate::kInsufficientPrivilege, "object is locked")});
  EXPECT_THAT(lab_.run(older(30h)), Contains(Pair(first_, StartsWith("not yet:"))));
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_, third_));
  // WAL stays as long as something is there that is not finished.
  EXPECT_THAT(lab_.wal(), Contains(10));
  EXPECT_THAT(lab_.run(older(30h)),
              Contains(Pair(first_, "deleted: what was left of a deleted backup")));
  EXPECT_THAT(lab_.objects(first_), IsEmpty());
  EXPECT_THAT(lab_.wal(), Not(Contains(10)));
}

TEST_F(RetentionJobTest, AFullThatIsLockedStaysRestorableWithoutItsIncrementals) {
  lab_.store.add({.call = storage::StoreCall::Remove,
                  .key_pattern = first_ + "/BACKUP_MANIFEST",
                  .times = 1,
                  .error = Error(sqlstate::kInsufficientPrivilege, "object is locked")});
  EXPECT_THAT(lab_.run(older(30h)), Contains(Pair(first_, StartsWith("not yet:"))));
  EXPECT_THAT(collection::list_layers(lab_.store, first_, stop_), ElementsAre(first_));
  EXPECT_THAT(lab_.broken(), IsEmpty());
  EXPECT_THAT(lab_.run(older(30h)), Contains(Pair(first_, StartsWith("deleted:"))));
}

TEST_F(RetentionJobTest, RemovesWhatUnfinishedBackupsLeft) {
  const auto left = collection::subdirectory_for(lab_.clock.now());
  const auto failed = lab_.create_job(jobs::kBackupType, backup::proto::BackupJobSpec());
  lab_.put(collection::lock_key(left, failed));
  lab_.put(left + "/data/1.pack");
  lab_.clock.advance(1s);
  const auto without_lock = collection::incremental_directory(third_, lab_.clock.now());
  lab_.put(without_lock + "/data/1.pack");
  // While the job may go on, nothing happens.
  EXPECT_THAT(lab_.run(lab_.keep(7)),
              UnorderedElementsAre(
                  Pair(first_, StartsWith("kept")), Pair(second_, StartsWith("kept")),
                  Pair(third_, StartsWith("kept")), Pair(left, HasSubstr("is not finished")),
                  Pair(without_lock, HasSubstr("too young"))));
  lab_.registry().succeed(failed, 0);
  EXPECT_THAT(lab_.run(lab_.keep(7)),
              Contains(Pair(left, "deleted: left behind by a backup that did not finish")));
  EXPECT_THAT(lab_.objects(left), IsEmpty());
  lab_.clock.advance(100h);
  EXPECT_THAT(lab_.run(lab_.keep(7)), Contains(Pair(without_lock, StartsWith("deleted"))));
  EXPECT_THAT(lab_.objects(without_lock), IsEmpty());
  EXPECT_THAT(lab_.fulls(), ElementsAre(first_, second_, third_));
}

TEST_F(RetentionJobTest, WhatABackupHasYetToLockStays) {
  // Named after a moment long ago.
  const auto past = collection::subdirectory_for(lab_.clock.now() - 500h);
  lab_.put(past + "/ENCRYPTION-INFO");
  backup::proto::BackupJobSpec spec;
  spec.set_subdirectory(past);
  const auto waiting = lab_.create_job(jobs::kBackupType, spec);
  EXPECT_THAT(lab_.run(lab_.keep(7)), Contains(Pair(past, HasSubstr("has yet to work in it"))));
  EXPECT_THAT(lab_.objects(past), ElementsAre(past + "/ENCRYPTION-INFO"));
  lab_.registry().succeed(waiting, 0);
  EXPECT_THAT(lab_.run(lab_.keep(7)), Contains(Pair(past, StartsWith("deleted"))));
  EXPECT_THAT(lab_.objects(past), IsEmpty());
}

TEST_F(RetentionJobTest, WhatAJobOfAnotherDaemonTellsOfCountsWhateverTheName) {
  // Its job was made long ago, too: it was paused.
  const jobs::JobId elsewhere = lab_.create({}) + 1;
  lab_.clock.advance(500h);
  const auto past = collection::subdirectory_for(lab_.clock.now() - 900h);
  lab_.put(collection::lock_key(past, elsewhere));
  lab_.put(past + "/data/1.pack");
  const Time sign = lab_.clock.now() - 1h;
  collection::write_checkpoint(lab_.store, past, {},
                               static_cast<std::uint64_t>(sign.time_since_epoch().count()), stop_);
  EXPECT_THAT(lab_.run(lab_.keep(7)), Contains(Pair(past, HasSubstr("is not finished"))));
  lab_.clock.advance(100h);
  EXPECT_THAT(lab_.run(lab_.keep(7)), Contains(Pair(past, StartsWith("deleted"))));
}

TEST_F(RetentionJobTest, LatestGoesToTheChainThatReachesFurthest) {
  // By its name it is newer than the second, which goes on.
  const auto past = lab_.full_of_the_past(lab_.clock.now() - 10h, 14);
  lab_.incremental(second_, 18, 18);
  lab_.incremental(second_, 19, 19);
  lab_.clock.advance(1h);
  lab_.run(lab_.older_than(lab_.clock.now() - 2h));
  EXPECT_THAT(lab_.fulls(), ElementsAre(second_));
  EXPECT_EQ(lab_.latest(), second_);
  EXPECT_THAT(lab_.objects(past), IsEmpty());
}

TEST_F(RetentionJobTest, ACancelledJobKeepsWhatItHasNotDeleted) {
  LabJob job(lab_.registry(), lab_.create(older(20h)));
  int manifests = 0;
  job.at_point = [&](std::string_view point) {
    if (point == "retention.manifest" && ++manifests == 2) throw Stopped{StopReason::Cancel};
  };
  EXPECT_THROW(lab_.resume(job), Stopped);
  lab_.revert(job);
  EXPECT_EQ(collection::list_layers(lab_.store, first_, stop_).size(), 2U);
  EXPECT_THAT(lab_.broken(), IsEmpty());
  EXPECT_THAT(lab_.objects("metadata/retention"), IsEmpty());
  collection::require_not_deleted(lab_.store, first_, stop_);
}

TEST_F(RetentionJobTest, ADryRunSaysTheSameAndChangesNothing) {
  const auto before = lab_.objects();
  const auto store = lab_.open_store("", {});
  const auto rows = dry_run(lab_.environment(), *store, older(30h), stop_);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].subdirectory(), first_);
  EXPECT_EQ(rows[0].action(), kWouldBeDeleted);
  EXPECT_EQ(rows[0].layers(), 3U);
  EXPECT_GT(rows[0].bytes(), 0U);
  EXPECT_EQ(rows[1].action(), kKept);
  EXPECT_EQ(lab_.objects(), before);
}

TEST_F(RetentionJobTest, MarksOfJobsThatAreGoneDoNotKeepBackupsOutForEver) {
  const jobs::JobId elsewhere = lab_.create({}) + 1;  // nobody here knows it
  collection::mark_deletion(lab_.store, third_, elsewhere, stop_);
  lab_.run(older(30h));
  EXPECT_THROW(collection::require_not_deleted(lab_.store, third_, stop_), Error);
  lab_.clock.advance(100h);
  lab_.run(lab_.keep(1));
  collection::require_not_deleted(lab_.store, third_, stop_);
}

TEST_F(RetentionJobTest, KeepsWhatItCannotRead) {
  lab_.store.remove(collection::manifest_key(first_), stop_);
  lab_.put(collection::manifest_key(first_));
  EXPECT_THAT(lab_.run(older(30h)), Contains(Pair(first_, StartsWith("kept: cannot be read"))));
  EXPECT_THAT(lab_.wal(), Contains(10));
}

// The process dies at each pause point, and at each storage call; the next one goes on.
TEST_F(RetentionJobTest, ACrashAtAnyPausePointLeavesWhatIsListedWhole) {
  struct Killed {};
  collection::write_latest(lab_.store, first_, lab_.clock.now(), stop_);
  LabJob job(lab_.registry(), lab_.create(older(20h)));
  for (int at = 1;; ++at) {
    int reached = 0;
    job.at_point = [&](std::string_view) {
      EXPECT_THAT(lab_.broken(), IsEmpty());
      if (++reached == at) throw Killed();
    };
    try {
      lab_.resume(job);
      break;
    } catch (const Killed&) {
      EXPECT_THAT(lab_.broken(), IsEmpty()) << at;
      EXPECT_FALSE(lab_.fulls().empty());
    }
    ASSERT_LT(at, 100);
  }
  EXPECT_THAT(lab_.fulls(), ElementsAre(third_));
  EXPECT_THAT(lab_.objects(first_), IsEmpty());
  EXPECT_THAT(lab_.objects(second_), IsEmpty());
  EXPECT_THAT(lab_.objects("metadata/retention"), IsEmpty());
  EXPECT_THAT(lab_.rows(job.id()), Contains(Pair(first_, StartsWith("deleted: older than"))));
  EXPECT_THAT(lab_.rows(job.id()), Contains(Pair(second_, StartsWith("deleted: older than"))));
}

TEST_F(RetentionJobTest, ACrashAtAnyRemovalLeavesWhatIsListedWhole) {
  LabJob job(lab_.registry(), lab_.create(older(20h)));
  for (int at = 0; at < 200; ++at) {
    lab_.store.add({.call = storage::StoreCall::Remove,
                    .kind = at % 2 == 0 ? storage::FaultKind::Fail : storage::FaultKind::FailAfter,
                    .nth = 3});
    try {
      lab_.resume(job);
      break;
    } catch (const Error&) {
      EXPECT_THAT(lab_.broken(), IsEmpty()) << at;
    }
  }
  EXPECT_THAT(lab_.fulls(), ElementsAre(third_));
  EXPECT_THAT(lab_.objects(first_), IsEmpty());
}

}  // namespace
}  // namespace holdfast::retention
