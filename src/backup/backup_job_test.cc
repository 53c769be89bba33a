#include "backup/backup_job.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "backup/testing/backup_lab.h"
#include "base/error.h"
#include "collection/format.h"
#include "postgres/control_file.h"
#include "postgres/page.h"

namespace holdfast::backup {
namespace {

using collection::proto::Manifest;
using testing::BackupLab;
using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::LabJob;
using ::testing::Not;
using ::testing::StartsWith;

constexpr jobs::JobId kJob = 4711;

/// Autovacuum would change files while tests compare them.
postgres::testing::PrivateInstanceOptions quiet() {
  return {.checksums = true,
          .initdb_arguments = {},
          .settings = {"autovacuum = off", "full_page_writes = on", "wal_compression = off"},
          .pg_bin = {},
          .start = true};
}

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const ByteView bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(sqlstate::kInternalError, "nothing was thrown");
}

/// Of about this size on disk.
void make_big_table(BackupLab& lab, const std::string& name, int megabytes) {
  lab.server().execute(fmt::format(
      "CREATE TABLE {0} (id int, filler text); ALTER TABLE {0} ALTER filler SET STORAGE PLAIN;"
      "INSERT INTO {0} SELECT i, repeat(md5(i::text), 31) FROM generate_series(1, {1}) i;"
      "CHECKPOINT",
      name, megabytes * 1000));
}

TEST(BackupJob, StoresEveryFileAsItIs) {
  BackupLab lab(quiet());
  lab.server().execute(
      "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 30000) i;"
      "CREATE INDEX ON t (i); CREATE UNLOGGED TABLE u AS SELECT 1 AS a");
  lab.server().execute("VACUUM t");
  lab.server().execute("CHECKPOINT");
  const auto unlogged = lab.relation_file("u");
  LabJob job(kJob, lab.spec());
  lab.resume(job);
  lab.server().stop("immediate");

  const Manifest manifest = lab.manifest();
  EXPECT_EQ(manifest.subdirectory(), lab.spec().subdirectory());
  EXPECT_EQ(manifest.job_id(), kJob);
  EXPECT_EQ(manifest.instance().data_checksum_version(), 1U);
  EXPECT_LT(manifest.start().position(), manifest.stop().position());
  EXPECT_THAT(manifest.backup_label(), StartsWith("START WAL LOCATION"));
  EXPECT_THAT(manifest.backup_label(), HasSubstr("LABEL: holdfast job 4711"));
  const auto content = lab.unpack(manifest);
  std::size_t relations = 0;
  for (const auto& file : manifest.files()) {
    if (file.kind() != collection::proto::FILE_KIND_RELATION) continue;
    ++relations;
    EXPECT_EQ(content.at(file.path()), read_file(lab.server().data_directory() / file.path()))
        << file.path();
    struct stat status {};
    ::stat((lab.server().data_directory() / file.path()).c_str(), &status);
    EXPECT_EQ(file.mode(), status.st_mode & 07777) << file.path();
  }
  EXPECT_GT(relations, 500U);
  postgres::parse_control_file(content.at("global/pg_control"), "global/pg_control");
  const auto relative = unlogged.lexically_relative(lab.server().data_directory()).string();
  EXPECT_FALSE(content.contains(relative));
  EXPECT_TRUE(content.contains(relative + "_init"));
  EXPECT_FALSE(content.contains("postmaster.pid"));
  EXPECT_TRUE(std::ranges::any_of(
      manifest.directories(), [](const auto& directory) { return directory.path() == "pg_wal"; }));
  EXPECT_TRUE(std::ranges::any_of(manifest.objects(), [](const auto& object) {
    return object.name() == "t" && object.type() == "table" && object.schema() == "public";
  }));
  // What only a running job needs is gone.
  for (const auto& key : lab.objects()) {
    EXPECT_THAT(key, Not(HasSubstr("BACKUP-")));
  }
  EXPECT_EQ(collection::resolve_latest(lab.store(), Stop::never()), lab.spec().subdirectory());
  EXPECT_THAT(collection::verify_data(lab.store(), {&manifest, 1}, 2, Stop::never()), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(lab.server().scratch() / "spool" / "backup-4711"));
}

TEST(BackupJob, RestoresToTheStopPositionWithTablespace) {
  BackupLab lab(quiet());
  const auto location = lab.server().scratch() / "space";
  std::filesystem::create_directory(location);
  lab.server().give(location);
  lab.server().execute(fmt::format("CREATE TABLESPACE space LOCATION '{}'", location.string()));
  lab.server().execute("CREATE TABLE t TABLESPACE space AS SELECT generate_series(1, 1000) i");
  LabJob job(kJob, lab.spec());
  job.at("backup.after_copy", [&] { lab.server().execute("INSERT INTO t VALUES (1001)"); });
  lab.resume(job);
  lab.server().execute("INSERT INTO t VALUES (1002)");

  const Manifest manifest = lab.manifest();
  ASSERT_EQ(manifest.tablespaces_size(), 1);
  EXPECT_EQ(manifest.tablespaces(0).location(), location.string());
  EXPECT_THAT(manifest.tablespace_map(), HasSubstr(location.string()));
  const auto restored = lab.restore(manifest);
  EXPECT_EQ(restored.execute("SELECT count(*), max(i) FROM t").integer(0, 0), 1001);
}

TEST(BackupJob, EndTimeIsThatOfTheLastCommit) {
  BackupLab lab(quiet());
  LabJob job(kJob, lab.spec());
  lab.server().execute("CREATE TABLE t (i int)");
  std::int64_t committed = 0;
  job.at("backup.after_copy", [&] {
    lab.server().execute("INSERT INTO t VALUES (1)");
    committed = lab.server()
                    .execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
                    .integer(0, 0);
    lab.server().execute("SELECT pg_sleep(0.5)");
  });
  lab.resume(job);
  const std::int64_t end = lab.manifest().end_time_us();
  EXPECT_LE(end, committed);
  EXPECT_GT(end, committed - 400'000);
}

TEST(BackupJob, FilesThatChangeWhileTheyAreCopiedComeOutAsReplayLeavesThem) {
  BackupLab lab(quiet());
  for (const std::string name : {"dropped", "truncated", "shrunk", "grown", "rewritten"}) {
    lab.server().execute(fmt::format(
        "CREATE TABLE {} AS SELECT i, repeat('x', 1000) AS t FROM generate_series(1, 20000) i",
        name));
  }
  LabJob job(kJob, lab.spec());
  job.at("backup.after_plan", [&] {
    lab.server().execute("DROP TABLE dropped");
    lab.server().execute("TRUNCATE truncated");
    lab.server().execute("DELETE FROM shrunk WHERE i > 10");
    lab.server().execute("VACUUM (TRUNCATE) shrunk");
    lab.server().execute("INSERT INTO grown SELECT i, 'new' FROM generate_series(1, 50000) i");
    lab.server().execute("VACUUM FULL rewritten");
    lab.server().execute("CREATE TABLE made AS SELECT 1 AS one");
    lab.server().execute("CREATE DATABASE copied");
    lab.server().execute("CHECKPOINT");
  });
  lab.resume(job);
  const auto restored = lab.restore(lab.manifest());
  const auto count = [&](const std::string& table) {
    return restored.execute(fmt::format("SELECT count(*) FROM {}", table)).integer(0, 0);
  };
  EXPECT_EQ(restored.execute("SELECT to_regclass('dropped') IS NULL").text(0, 0), "t");
  EXPECT_EQ(count("truncated"), 0);
  EXPECT_EQ(count("shrunk"), 10);
  EXPECT_EQ(count("grown"), 70000);
  EXPECT_EQ(count("rewritten"), 20000);
  EXPECT_EQ(count("made"), 1);
}

TEST(BackupJob, GoesOnAfterAPauseWithThePacksItHasFinished) {
  BackupLab lab(quiet());
  make_big_table(lab, "big", 140);
  make_big_table(lab, "later", 10);
  auto spec = lab.spec();
  spec.set_compression("none");
  spec.set_workers(1);
  LabJob job(kJob, spec);
  job.stop_at("backup.copy", StopReason::Pause, 3);
  EXPECT_THROW(lab.resume(job), Stopped);
  EXPECT_THAT(lab.objects(), Contains(HasSubstr("BACKUP-CHECKPOINT")));
  EXPECT_THAT(lab.objects(), Contains(HasSubstr("BACKUP-LOCK")));
  EXPECT_THAT(lab.objects(), Not(Contains(HasSubstr("BACKUP_MANIFEST"))));

  // Changed, dropped and new meanwhile.
  lab.server().execute(
      "UPDATE big SET filler = 'changed' WHERE id = 17; DROP TABLE later;"
      "CREATE TABLE new AS SELECT 1 AS one; CHECKPOINT");
  const auto packs_before = lab.store().calls(storage::StoreCall::Put);
  job.next_attempt();
  lab.resume(job);
  const auto puts = lab.store().calls(storage::StoreCall::Put) - packs_before;

  const Manifest manifest = lab.manifest();
  EXPECT_THAT(manifest.packs(), Contains(::testing::Property(&collection::proto::Pack::number, 1)));
  EXPECT_LT(puts, static_cast<unsigned>(manifest.packs_size()) + 8);
  const bool superseded = std::ranges::any_of(
      manifest.packs(), [](const auto& pack) { return pack.superseded_size() > 0; });
  EXPECT_TRUE(superseded);
  EXPECT_THAT(collection::verify_data(lab.store(), {&manifest, 1}, 1, Stop::never()), IsEmpty());
  const auto restored = lab.restore(manifest);
  EXPECT_EQ(restored.execute("SELECT count(*) FROM big").integer(0, 0), 140000);
  EXPECT_EQ(restored.execute("SELECT count(*) FROM big WHERE filler = 'changed'").integer(0, 0), 1);
  EXPECT_EQ(restored.execute("SELECT count(*) FROM new").integer(0, 0), 1);
}

TEST(BackupJob, TakesAPackAgainThatWasDamagedBetweenTwoAttempts) {
  BackupLab lab(quiet());
  make_big_table(lab, "big", 80);
  auto spec = lab.spec();
  spec.set_compression("none");
  spec.set_workers(1);
  LabJob job(kJob, spec);
  job.stop_at("backup.copy", StopReason::Pause, 2);
  EXPECT_THROW(lab.resume(job), Stopped);
  lab.store().remove(collection::pack_key(spec.subdirectory(), 1), Stop::never());
  job.next_attempt();
  lab.resume(job);
  const Manifest manifest = lab.manifest();
  EXPECT_THAT(collection::verify_data(lab.store(), {&manifest, 1}, 1, Stop::never()), IsEmpty());
  lab.unpack(manifest);
}

TEST(BackupJob, RemovesPacksThatNoCheckpointKnows) {
  BackupLab lab(quiet());
  LabJob job(kJob, lab.spec());
  // As when the process is killed after a pack was put and before the checkpoint.
  job.at("backup.after_lock", [&] {
    lab.store().put(collection::pack_key(lab.spec().subdirectory(), 5), as_bytes("rest"),
                    storage::PutMode::OnlyIfAbsent, Stop::never());
  });
  lab.resume(job);
  const Manifest manifest = lab.manifest();
  EXPECT_THAT(lab.objects(), Not(Contains(EndsWith("/5.pack"))));
  for (const auto& pack : manifest.packs()) EXPECT_GT(pack.number(), 5U);
}

TEST(BackupJob, FinishesABackupWhoseManifestIsWritten) {
  BackupLab lab(quiet());
  LabJob job(kJob, lab.spec());
  job.stop_at("backup.after_manifest", StopReason::Shutdown);
  EXPECT_THROW(lab.resume(job), Stopped);
  EXPECT_THAT(lab.objects(), Not(Contains(HasSubstr("LATEST"))));
  lab.server().stop();
  job.next_attempt();
  lab.resume(job);
  EXPECT_EQ(collection::resolve_latest(lab.store(), Stop::never()), lab.spec().subdirectory());
  EXPECT_THAT(lab.objects(), Not(Contains(HasSubstr("BACKUP-"))));
  EXPECT_GE(job.rows(), 0);
}

TEST(BackupJob, LeavesLatestAtANewerBackupWhenItIsResumedLate) {
  BackupLab lab(quiet());
  LabJob job(kJob, lab.spec());
  job.stop_at("backup.after_manifest", StopReason::Pause);
  EXPECT_THROW(lab.resume(job), Stopped);
  proto::BackupJobSpec spec = lab.spec();
  spec.set_subdirectory("2026/11/21-223000.00");
  LabJob newer(kJob + 1, spec);
  lab.resume(newer);
  job.next_attempt();
  lab.resume(job);
  EXPECT_EQ(collection::resolve_latest(lab.store(), Stop::never()), spec.subdirectory());
  lab.revert(job);
  EXPECT_EQ(collection::resolve_latest(lab.store(), Stop::never()), spec.subdirectory());
}

TEST(BackupJob, RevertLeavesNothingBehindWhereverItStopped) {
  BackupLab lab(quiet());
  for (const std::string point :
       {"backup.after_lock", "backup.after_wal_start", "backup.after_start", "backup.copy",
        "backup.after_copy", "backup.after_stop", "backup.after_wal", "backup.before_manifest"}) {
    SCOPED_TRACE(point);
    LabJob job(kJob, lab.spec());
    job.stop_at(point, StopReason::Cancel);
    EXPECT_THROW(lab.resume(job), Stopped);
    EXPECT_THAT(lab.objects(), Not(IsEmpty()));
    job.next_attempt();
    lab.revert(job);
    EXPECT_THAT(lab.objects(), IsEmpty());
    lab.revert(job);
  }
  const auto slots = lab.server().execute("SELECT count(*) FROM pg_replication_slots");
  EXPECT_EQ(slots.integer(0, 0), 0);
}

TEST(BackupJob, RevertKeepsWhatIsNotItsOwn) {
  BackupLab lab(quiet());
  LabJob finished(kJob, lab.spec());
  lab.resume(finished);
  const auto before = lab.objects();

  // Another job of the same subdirectory is refused, and its revert must not touch the backup.
  LabJob second(kJob + 1, lab.spec());
  const Error error = error_of([&] { lab.resume(second); });
  EXPECT_THAT(error.message(), HasSubstr("already contains a"));
  lab.revert(second);
  EXPECT_EQ(lab.objects(), before);

  // A canceled later one keeps the WAL that the finished one needs.
  auto spec = lab.spec();
  spec.set_subdirectory("2026/11/20-223001.00");
  LabJob third(kJob + 2, spec);
  third.stop_at("backup.before_manifest", StopReason::Cancel);
  EXPECT_THROW(lab.resume(third), Stopped);
  lab.server().stop("immediate");
  third.next_attempt();
  lab.revert(third);
  EXPECT_EQ(lab.objects(), before);
}

TEST(BackupJob, CorruptPageIsNamed) {
  BackupLab lab(quiet());
  lab.server().execute(
      "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 30000) i; CHECKPOINT");
  const auto file = lab.relation_file("t");
  lab.damage(file, 3);
  LabJob job(kJob, lab.spec());
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_EQ(error.state(), sqlstate::kDataCorrupted);
  EXPECT_THAT(error.message(), HasSubstr("block 3 of file"));
  EXPECT_THAT(error.message(), HasSubstr(file.filename().string()));
  EXPECT_THAT(error.message(), HasSubstr("public.t"));
  EXPECT_THAT(lab.objects(), Not(Contains(HasSubstr("BACKUP_MANIFEST"))));

  auto spec = lab.spec();
  spec.set_subdirectory("2026/11/20-223001.00");
  spec.set_allow_corrupt_pages(true);
  LabJob allowed(kJob + 1, spec);
  lab.resume(allowed);
  const auto manifest = collection::read_manifest(lab.store(), spec.subdirectory(), Stop::never());
  ASSERT_TRUE(manifest);
  ASSERT_EQ(manifest->corrupt_pages_size(), 1);
  EXPECT_EQ(manifest->corrupt_pages(0).block(), 3U);
  EXPECT_EQ(manifest->corrupt_pages(0).path(),
            file.lexically_relative(lab.server().data_directory()).string());
  EXPECT_THAT(allowed.notices(), Contains(HasSubstr("public.t")));
}

TEST(BackupJob, TornPageThatTheWalRewritesIsNoError) {
  BackupLab lab(quiet());
  lab.server().execute(
      "CREATE TABLE t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 30000) i; CHECKPOINT");
  const auto file = lab.relation_file("t");
  LabJob job(kJob, lab.spec());
  job.at("backup.after_start", [&] {
    // The right page is in shared buffers, its image in the WAL; what is on disk is torn.
    lab.server().execute("UPDATE t SET m = 'new' WHERE i <= 1000");
    lab.damage(file, 3);
  });
  lab.resume(job);
  const Manifest manifest = lab.manifest();
  EXPECT_EQ(manifest.corrupt_pages_size(), 0);
  const auto content = lab.unpack(manifest);
  const auto& bytes = content.at(file.lexically_relative(lab.server().data_directory()).string());
  ASSERT_FALSE(postgres::page_is_valid(
      ByteView(bytes).subspan(3 * postgres::kPageBytes, postgres::kPageBytes), 3))
      << "the torn page was not copied, so nothing was tested";
  const auto restored = lab.restore(manifest);
  EXPECT_EQ(restored.execute("SELECT count(*) FROM t WHERE m = 'new'").integer(0, 0), 1000);
}

TEST(BackupJob, FailsCleanlyAtEveryPutAndSucceedsAfterwards) {
  BackupLab lab(quiet());
  unsigned failures = 0;
  for (unsigned nth = 1; nth < 50; ++nth) {
    SCOPED_TRACE(nth);
    LabJob job(kJob + nth, lab.spec());
    lab.store().add({.call = storage::StoreCall::Put,
                     .kind = storage::FaultKind::Fail,
                     .nth = nth,
                     .error = Error(sqlstate::kDiskFull, "could not write: no space left")});
    const auto puts = lab.store().calls(storage::StoreCall::Put);
    try {
      lab.resume(job);
    } catch (const Error& error) {
      ++failures;
      EXPECT_EQ(error.state(), sqlstate::kDiskFull);
      lab.revert(job);
      // After the manifest only LATEST can fail, and the backup stays.
      if (lab.objects().empty()) continue;
      EXPECT_THAT(lab.objects(), Contains(HasSubstr("LATEST")));
    }
    EXPECT_LE(lab.store().calls(storage::StoreCall::Put) - puts, 12U);
    break;
  }
  EXPECT_GE(failures, 5U);
  const auto manifest = lab.manifest();
  EXPECT_THAT(collection::verify_data(lab.store(), {&manifest, 1}, 1, Stop::never()), IsEmpty());
}

TEST(BackupJob, GoesOnAfterADiskWasFull) {
  BackupLab lab(quiet());
  make_big_table(lab, "big", 80);
  auto spec = lab.spec();
  spec.set_compression("none");
  LabJob job(kJob, spec);
  lab.store().add({.call = storage::StoreCall::Put,
                   .kind = storage::FaultKind::Fail,
                   .key_pattern = "*.pack",
                   .nth = 3,
                   .times = 1,
                   .error = Error(sqlstate::kDiskFull, "could not write: no space left")});
  EXPECT_EQ(error_of([&] { lab.resume(job); }).state(), sqlstate::kDiskFull);
  EXPECT_THAT(lab.objects(), Contains(HasSubstr("BACKUP-CHECKPOINT")));
  const auto kept = collection::read_checkpoint(lab.store(), spec.subdirectory(), Stop::never());
  ASSERT_TRUE(kept);
  ASSERT_GE(kept->packs_size(), 1);
  lab.resume(job);
  const Manifest manifest = lab.manifest();
  EXPECT_EQ(manifest.packs(0).number(), kept->packs(0).number());
  EXPECT_THAT(collection::verify_data(lab.store(), {&manifest, 1}, 1, Stop::never()), IsEmpty());
}

TEST(BackupJob, LostServerIsAFailureThatMayBeRepeated) {
  BackupLab lab(quiet());
  for (const std::string point : {"backup.after_start", "backup.copy", "backup.after_copy",
                                  "backup.after_catalog", "backup.after_stop"}) {
    SCOPED_TRACE(point);
    auto spec = lab.spec();
    LabJob job(kJob, spec);
    job.at(point, [&] { lab.server().stop("immediate"); });
    const Error error = error_of([&] { lab.resume(job); });
    EXPECT_TRUE(error.retry_is_safe()) << error.message();
    lab.server().start();
    lab.revert(job);
    EXPECT_THAT(lab.objects(), IsEmpty());
  }
}

TEST(BackupJob, StopsSoonWhileItWaitsForWal) {
  BackupLab lab(quiet());
  LabJob job(kJob, lab.spec());
  // Archiving hangs: the backup can only wait.
  lab.store().add({.call = storage::StoreCall::Put,
                   .kind = storage::FaultKind::Stall,
                   .key_pattern = "wal/*",
                   .times = 1000});
  std::chrono::steady_clock::time_point asked;
  std::jthread asker;
  job.at("backup.after_stop", [&] {
    asker = std::jthread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      asked = std::chrono::steady_clock::now();
      job.request_stop(StopReason::Pause);
    });
  });
  EXPECT_THROW(lab.resume(job), Stopped);
  EXPECT_LT(std::chrono::steady_clock::now() - asked, std::chrono::seconds(2));
}

// The checkpoint that it would still write is worth a moment, not minutes.
TEST(BackupJob, StopsSoonWhenTheStorageHangs) {
  for (const auto call : {storage::StoreCall::Put, storage::StoreCall::List}) {
    BackupLab lab(quiet());
    auto spec = lab.spec();
    spec.set_compression("none");
    spec.set_workers(1);
    LabJob job(kJob, spec);
    // One pack is finished: there is progress to save.
    job.at("backup.copy", [&] {
      lab.store().add({.call = call,
                       .kind = storage::FaultKind::Stall,
                       .key_pattern = "*/progress*",
                       .times = 1000});
      job.request_stop(StopReason::Pause);
    });
    const auto asked = std::chrono::steady_clock::now();
    EXPECT_THROW(lab.resume(job), Stopped);
    EXPECT_EQ(job.reached("backup.copy"), 1);
    // It would be hours otherwise.
    EXPECT_LT(std::chrono::steady_clock::now() - asked, std::chrono::seconds(120));
  }
}

TEST(BackupJob, RefusesSpecificationsThatCannotBeRight) {
  proto::BackupJobSpec spec;
  spec.set_subdirectory("2026/11/20-223000.00");
  check_spec(spec);
  spec.set_workers(65);
  EXPECT_THAT(error_of([&] { check_spec(spec); }).message(), HasSubstr("between 1 and 64"));
  spec.set_workers(0);
  spec.set_compression("brotli");
  EXPECT_EQ(error_of([&] { check_spec(spec); }).state(), sqlstate::kInvalidParameterValue);
  spec.set_compression("");
  spec.set_subdirectory("../escape");
  EXPECT_EQ(error_of([&] { check_spec(spec); }).state(), sqlstate::kInvalidParameterValue);
}

/// The layer after spec()'s, elsewhere.
proto::BackupJobSpec layer_elsewhere(BackupLab& lab) {
  proto::BackupJobSpec spec = lab.spec();
  spec.set_full(spec.subdirectory());
  spec.set_subdirectory(fmt::format("incrementals/{}/20991231/235900.00", spec.full()));
  spec.set_incremental_uri(lab.elsewhere().description());
  spec.set_unprotected(true);
  return spec;
}

TEST(BackupJob, ALayerThatDoesNotBelongToTheChainTiesItToNoOtherPlace) {
  BackupLab lab(quiet());
  LabJob full(kJob, lab.spec());
  lab.resume(full);
  const auto before = lab.objects();
  auto spec = layer_elsewhere(lab);
  auto& database = *spec.add_scope();
  database.set_oid(5);
  database.set_name("postgres");
  LabJob scoped(kJob + 1, spec);
  EXPECT_THAT(error_of([&] { lab.resume(scoped); }).message(),
              HasSubstr("cannot append a backup of specific tables or databases"));
  lab.revert(scoped);
  EXPECT_EQ(lab.objects(), before);
  EXPECT_FALSE(lab.elsewhere().stat(lab.spec().subdirectory() + "/FULL-LOCATION", Stop::never()));
}

TEST(BackupJob, GoesOnInTheOtherPlaceWhereItBegan) {
  BackupLab lab(quiet());
  LabJob full(kJob, lab.spec());
  lab.resume(full);
  lab.server().execute("CREATE TABLE t AS SELECT generate_series(1, 1000) i");
  LabJob layer(kJob + 1, layer_elsewhere(lab));
  layer.stop_at("backup.after_copy", StopReason::Shutdown);
  EXPECT_THROW(lab.resume(layer), Stopped);
  layer.next_attempt();
  lab.resume(layer);
  EXPECT_THAT(lab.objects(), Not(Contains(StartsWith("incrementals/"))));
  std::vector<std::string> there;
  lab.elsewhere().list(
      "", [&](const storage::ObjectInfo& info) { there.push_back(info.key); }, Stop::never());
  EXPECT_THAT(there, Contains(EndsWith("/BACKUP_MANIFEST")));
  EXPECT_THAT(there, Not(Contains(HasSubstr("BACKUP-LOCK"))));
}

// Somebody took it for dead, and may have removed its packs.
TEST(BackupJob, WritesNoManifestWithoutItsLock) {
  BackupLab lab(quiet());
  LabJob job(kJob, lab.spec());
  job.at("backup.before_manifest", [&] {
    lab.store().remove(collection::lock_key(lab.spec().subdirectory(), kJob), Stop::never());
  });
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_EQ(error.state(), sqlstate::kObjectNotInPrerequisiteState);
  EXPECT_THAT(error.message(), HasSubstr("was removed while the backup ran"));
  EXPECT_THAT(lab.objects(), Not(Contains(EndsWith("BACKUP_MANIFEST"))));
}

// A canceled backup, or a deletion of others, took it for unneeded.
TEST(BackupJob, WritesNoManifestWithoutItsWal) {
  BackupLab lab(quiet());
  LabJob job(kJob, lab.spec());
  std::string segment;
  job.at("backup.before_manifest", [&] {
    for (const auto& key : lab.objects()) {
      if (key.ends_with(".wal")) segment = key;
    }
    lab.store().remove(segment, Stop::never());
  });
  const Error error = error_of([&] { lab.resume(job); });
  EXPECT_EQ(error.state(), sqlstate::kObjectNotInPrerequisiteState);
  EXPECT_THAT(error.message(), HasSubstr(segment));
  EXPECT_TRUE(error.retry_is_safe());
  EXPECT_THAT(lab.objects(), Not(Contains(EndsWith("BACKUP_MANIFEST"))));

  job.next_attempt();
  lab.resume(job);
  const Manifest manifest = lab.manifest();
  for (const auto& found : collection::verify_data(lab.store(), {&manifest, 1}, 1, Stop::never())) {
    ADD_FAILURE() << found.key << ": " << found.problem;
  }
}

}  // namespace
}  // namespace holdfast::backup
