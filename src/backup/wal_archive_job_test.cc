#include "backup/wal_archive_job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backup/testing/backup_lab.h"
#include "base/error.h"
#include "collection/wal_archive.h"
#include "postgres/testing/segment_size.h"
#include "postgres/wal_position.h"
#include "postgres/wal_receiver.h"
#include "state/database.h"
#include "wal_archive_job.pb.h"

namespace holdfast::backup {
namespace {

using postgres::Lsn;
using postgres::testing::kSmallSegment;
using ::testing::HasSubstr;

const std::string kSlot = "holdfast_test";

/// A server with small segments, a collection in memory, and the job that archives the one into
/// the other.
class WalArchiveJobTest : public ::testing::Test {
 protected:
  WalArchiveJobTest() {
    lab_.server().execute("CREATE TABLE t (id int, v text); SELECT pg_switch_wal()");
    auto connection = lab_.server().connect();
    postgres::create_physical_slot(connection, kSlot, Stop::never());
    const auto position = *postgres::wal_position(connection, kSlot, Stop::never());
    system_ = position.system_identifier;
    proto::WalArchiveJobSpec spec;
    spec.set_collection_uri("memory://archive");
    spec.set_mode(proto::WAL_ARCHIVE_MODE_FULL);
    spec.set_slot(kSlot);
    spec.set_system_identifier(system_);
    spec.set_timeline(position.timeline);
    spec.set_start(position.flushed.value);
    first_ = segment_of(position.flushed, kSmallSegment);
    const std::string text = spec.SerializeAsString();
    job_.emplace(7, Bytes(as_bytes(text).begin(), as_bytes(text).end()));
    environment_ = {.stores = &lab_,
                    .conninfo = [this] { return lab_.server().conninfo(); },
                    .data_directory = lab_.server().data_directory(),
                    .database = &database_,
                    .board = &board_};
    environment_.flush_interval = std::chrono::milliseconds(100);
    environment_.mark_interval = std::chrono::milliseconds(100);
  }
  ~WalArchiveJobTest() override {
    stop();
    std::filesystem::remove_all(state_);
  }

  void start() {
    error_.reset();
    ended_ = false;
    job_->next_attempt();
    thread_ = std::jthread([this] {
      try {
        WalArchiveJob(environment_).resume(*job_);
      } catch (const Error& error) {
        error_ = error;
      } catch (const Stopped&) {
      }
      ended_ = true;
    });
  }
  void stop() {
    if (!thread_.joinable()) return;
    job_->request_stop(StopReason::Shutdown);
    thread_.join();
  }
  /// How the job ended by itself.
  Error wait_ended() {
    until("the job ends", [&] { return ended_.load(); });
    stop();
    return error_.value_or(Error(sqlstate::kInternalError, "no error"));
  }
  static void until(const std::string& what, const std::function<bool()>& true_now) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (!true_now()) {
      if (std::chrono::steady_clock::now() > deadline) {
        throw Error(sqlstate::kInternalError, "this never came: " + what);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  /// About two megabytes of WAL.
  void work() {
    lab_.server().execute(
        "INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 2500) g");
  }
  Lsn flushed() {
    return *postgres::parse_lsn(
        lab_.server().execute("SELECT pg_current_wal_flush_lsn()").text(0, 0));
  }
  WalArchiveState state() { return board_.find(7).value_or(WalArchiveState{}); }
  void wait_archived() {
    const Lsn end = flushed();
    until("everything is archived", [&] { return state().archived >= end || ended_; });
    ASSERT_FALSE(ended_) << error_->message();
  }
  std::uint64_t durable() {
    proto::WalArchiveCheckpoint row;
    if (const auto bytes = job_->checkpoint()) {
      row.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
    }
    return row.position();
  }
  bool has_slot() {
    return lab_.server()
               .execute("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + kSlot +
                        "'")
               .integer(0, 0) == 1;
  }
  void expect_no_gap() {
    const auto there =
        collection::list_wal_segments(lab_.store(), system_, 1, kSmallSegment, Stop::never());
    const std::uint64_t end = segment_of(flushed(), kSmallSegment);
    for (std::uint64_t segment = first_; segment < end; ++segment) {
      EXPECT_TRUE(std::ranges::binary_search(there, segment)) << segment;
    }
  }
  std::vector<std::string> objects_with(std::string_view part) {
    auto names = lab_.objects();
    std::erase_if(names,
                  [&](const std::string& name) { return name.find(part) == std::string::npos; });
    return names;
  }
  /// The server goes on on the next timeline.
  void promote() {
    auto& server = lab_.server();
    server.stop();
    std::ofstream(server.data_directory() / "standby.signal").close();
    server.give(server.data_directory() / "standby.signal");
    server.start();
    server.execute("SELECT pg_promote()");
  }
  /// Archives what is there and what `more` brings, and puts the data directory back from a copy
  /// that was taken in between, as a snapshot of its disk is.
  void set_back_before(const std::function<void()>& more) {
    auto& server = lab_.server();
    const std::filesystem::path snapshot = server.scratch() / "snapshot";
    wait_archived();
    server.stop();
    server.run({"cp", "-a", server.data_directory(), snapshot});
    server.start();
    more();
    wait_archived();
    stop();
    server.stop();
    server.run({"find", server.data_directory(), "-mindepth", "1", "-delete"});
    server.run({"cp", "-a", snapshot.string() + "/.", server.data_directory()});
    server.start();
  }
  void storage_fails(const Error& error, storage::StoreCall call = storage::StoreCall::Put) {
    lab_.store().add(
        {.call = call, .kind = storage::FaultKind::Fail, .times = 100'000, .error = error});
  }

  static std::filesystem::path make_state() {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-job-XXXXXX").string();
    return mkdtemp(name.data());
  }

  testing::BackupLab lab_{
      {.initdb_arguments = {"--wal-segsize=1"}, .settings = {"wal_keep_size = '1GB'"}}};
  const std::filesystem::path state_ = make_state();
  state::Database database_{state_};
  WalArchiveBoard board_;
  WalArchiveEnvironment environment_;
  std::uint64_t system_ = 0;
  std::uint64_t first_ = 0;
  std::optional<testing::LabJob> job_;
  std::optional<Error> error_;
  std::atomic<bool> ended_ = false;
  std::jthread thread_;
};

// Expired credentials, a mount that is missing, storage that was turned off: all of them pass.
TEST_F(WalArchiveJobTest, ARefusalThatPassesEndsNothing) {
  for (const auto& refusal :
       {Error(sqlstate::kInsufficientPrivilege, "the token has expired"),
        Error(sqlstate::kObjectNotInPrerequisiteState, "nodelocal storage is turned off"),
        Error(sqlstate::kFeatureNotSupported, "this endpoint cannot do that"),
        Error(sqlstate::kInternalError, "cache lookup failed"),
        Error(sqlstate::kDataCorrupted, "object \"x\" ends before byte 9")}) {
    lab_.store().add({.call = storage::StoreCall::Put, .nth = 3, .times = 2, .error = refusal});
  }
  start();
  std::string reason;
  for (int i = 0; i < 4; ++i) {
    work();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (reason.empty()) reason = state().waiting_for;
  }
  wait_archived();
  EXPECT_FALSE(reason.empty());
  until("it waits no longer", [&] { return state().waiting_for.empty(); });
  EXPECT_TRUE(has_slot());
  expect_no_gap();
}

// On a timeline above 1 each stay begins by putting the history, which fails first.
TEST_F(WalArchiveJobTest, TheLimitHoldsOnALaterTimelineToo) {
  environment_.keep_limit = 6 * kSmallSegment;
  start();
  work();
  wait_archived();
  stop();
  promote();
  start();
  until("it follows", [&] { return state().timeline == 2 || ended_; });
  wait_archived();
  storage_fails(Error(sqlstate::kIoError, "the storage is away"));
  work();
  until("it tells how far it is behind",
        [&] { return !state().waiting_for.empty() && state().lag_bytes > kSmallSegment; });
  const auto waiting = state();
  EXPECT_GT(waiting.protected_bytes, kSmallSegment);
  EXPECT_EQ(waiting.timeline, 2U);
  EXPECT_FALSE(ended_);
  for (int i = 0; i < 4; ++i) work();
  const Error error = wait_ended();
  EXPECT_THAT(error.message(), HasSubstr("--wal-keep-limit"));
  job_->next_attempt();
  WalArchiveJob(environment_).revert(*job_);
  EXPECT_FALSE(has_slot());
}

// The promotion itself comes while storage is away: not even the history can be put.
TEST_F(WalArchiveJobTest, TheLimitHoldsThoughAStayCannotBegin) {
  environment_.keep_limit = 6 * kSmallSegment;
  start();
  work();
  wait_archived();
  stop();
  promote();
  storage_fails(Error(sqlstate::kInsufficientPrivilege, "no"));
  storage_fails(Error(sqlstate::kInsufficientPrivilege, "no"), storage::StoreCall::Stat);
  start();
  work();
  until("it waits", [&] { return state().lag_bytes > kSmallSegment || ended_; });
  EXPECT_EQ(state().waiting_for, "no");
  for (int i = 0; i < 4; ++i) work();
  EXPECT_THAT(wait_ended().message(), HasSubstr("--wal-keep-limit"));
}

TEST_F(WalArchiveJobTest, SlowStorageIsHeldToTheLimit) {
  environment_.keep_limit = 6 * kSmallSegment;
  environment_.over_limit = {};
  start();
  wait_archived();
  stop();
  // Every put succeeds, and the server writes more meanwhile than was put.
  for (int batch = 1; batch < 40; ++batch) {
    job_->at(
        "archive.after_put",
        [this] {
          for (int i = 0; i < 8; ++i) work();
        },
        job_->reached("archive.after_put") + batch);
  }
  start();
  work();
  EXPECT_THAT(wait_ended().message(), HasSubstr("--wal-keep-limit"));
}

// Nothing is wrong with the storage: it takes a burst that is larger than the limit.
TEST_F(WalArchiveJobTest, CatchesUpWithABurst) {
  environment_.keep_limit = 3 * kSmallSegment;
  start();
  wait_archived();
  stop();
  std::atomic<bool> came = false;
  job_->at(
      "archive.after_put",
      [&] {
        for (int i = 0; i < 8; ++i) work();
        came = true;
      },
      job_->reached("archive.after_put") + 1);
  start();
  work();
  until("the burst comes", [&] { return came.load(); });
  wait_archived();
  expect_no_gap();
}

// More than the limit came together while no daemon was there. It can be archived, and is.
TEST_F(WalArchiveJobTest, CatchesUpWithMoreThanTheLimit) {
  environment_.keep_limit = 3 * kSmallSegment;
  for (int i = 0; i < 12; ++i) work();
  start();
  wait_archived();
  expect_no_gap();
}

TEST_F(WalArchiveJobTest, AServerThatWasSetBackEndsTheArchive) {
  start();
  work();
  set_back_before([this] {
    work();
    work();
  });
  lab_.server().execute("INSERT INTO t VALUES (1, 'of the other history')");
  const auto marks = objects_with(".time");
  start();
  const Error error = wait_ended();
  EXPECT_THAT(error.message(), HasSubstr("the server was set back"));
  EXPECT_THAT(error.hint(), HasSubstr("pg_promote()"));
  EXPECT_EQ(objects_with(".time"), marks);
}

// Less than a segment: only the tail tells.
TEST_F(WalArchiveJobTest, ATailTellsThatTheServerWasSetBack) {
  start();
  lab_.server().execute("SELECT pg_switch_wal(); INSERT INTO t VALUES (1, 'kept')");
  set_back_before(
      [this] { lab_.server().execute("INSERT INTO t VALUES (2, repeat('left behind', 9000))"); });
  const auto marks = objects_with(".time");
  start();
  EXPECT_THAT(wait_ended().message(), HasSubstr("the server was set back"));
  EXPECT_EQ(objects_with(".time"), marks);
}

// While no daemon was there it passed the place where the archive ended.
TEST_F(WalArchiveJobTest, AServerThatPassedTheArchiveIsFoundOut) {
  start();
  work();
  set_back_before([this] {
    work();
    work();
  });
  lab_.server().execute("INSERT INTO t VALUES (1, 'of the other history')");
  for (int i = 0; i < 4; ++i) work();
  const auto objects = lab_.objects();
  start();
  EXPECT_THAT(wait_ended().message(), HasSubstr("the server was set back"));
  EXPECT_EQ(lab_.objects(), objects);
}

// Crash recovery of an unmodified server ends behind everything that was archived.
TEST_F(WalArchiveJobTest, ACrashSetsNothingBack) {
  start();
  for (int i = 0; i < 4; ++i) {
    work();
    lab_.server().execute("INSERT INTO t SELECT g FROM generate_series(1, 100) g");
    if (i % 2 == 0) wait_archived();
    lab_.server().stop("immediate");
    lab_.server().start();
  }
  wait_archived();
  expect_no_gap();
}

// A mount that is missing shows the empty directory beneath it.
TEST_F(WalArchiveJobTest, WaitsForACollectionThatIsNotThere) {
  start();
  wait_archived();
  stop();
  // Before the first segment is finished, and after it.
  for (int i = 0; i < 2; ++i) {
    lab_.store().add({.call = storage::StoreCall::Stat,
                      .kind = storage::FaultKind::Lie,
                      .key_pattern = "*/ARCHIVE",
                      .times = 2});
    const unsigned puts = lab_.store().calls(storage::StoreCall::Put);
    start();
    until("it waits", [&] { return !state().waiting_for.empty() || ended_; });
    EXPECT_THAT(state().waiting_for, HasSubstr("no longer has the WAL archive"));
    EXPECT_EQ(lab_.store().calls(storage::StoreCall::Put), puts);
    work();
    wait_archived();
    expect_no_gap();
    stop();
  }
}

}  // namespace
}  // namespace holdfast::backup
