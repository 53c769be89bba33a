#include "postgres/wal_receiver.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/error.h"
#include "postgres/backup_session.h"
#include "postgres/control_file.h"
#include "postgres/testing/private_instance.h"
#include "postgres/testing/segment_size.h"
#include "postgres/wal_scan.h"

namespace holdfast::postgres {
namespace {

using testing::kDefaultSegment;

class Receiving : public ::testing::Test {
 protected:
  Receiving() { std::filesystem::create_directory(spool_); }

  std::unique_ptr<WalReceiver> connect() {
    return WalReceiver::connect({.connect = {.conninfo = server_.conninfo()},
                                 .wal_segment_bytes = kDefaultSegment,
                                 .slot = "holdfast_test",
                                 .temporary_slot = true,
                                 .status_interval = std::chrono::milliseconds(500)},
                                Stop::never());
  }
  std::string content(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  testing::PrivateInstance server_;
  std::filesystem::path spool_ = server_.scratch() / "spool";
};

TEST_F(Receiving, GivesABackupsWholeWal) {
  const auto receiver = connect();
  const ControlFile control = read_control_file(server_.data_directory());
  EXPECT_EQ(receiver->identity().system_identifier, control.system_identifier);
  EXPECT_EQ(receiver->identity().timeline, 1U);

  auto session = BackupSession::start(server_.connect(), {.label = "te'st"}, Stop::never());
  EXPECT_FALSE(session.from_standby());
  SpoolWalSink sink(spool_, kDefaultSegment);
  std::jthread thread(
      [&] { receiver->run(session.start_lsn(), session.timeline(), sink, Stop::never()); });
  server_.execute("CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 300000) g");
  const BackupStopped stopped = session.finish(Stop::never());
  receiver->end_at(stopped.stop);
  thread.join();
  sink.finish();

  EXPECT_GE(receiver->received(), stopped.stop);
  EXPECT_EQ(stopped.timeline, 1U);
  EXPECT_NE(stopped.backup_label.find("LABEL: te'st"), std::string::npos);
  EXPECT_TRUE(stopped.tablespace_map.empty());
  const BackupLabel label = parse_backup_label(stopped.backup_label);
  EXPECT_EQ(label.start, session.start_lsn());
  EXPECT_FALSE(label.from_standby);
  ASSERT_GE(sink.segments().size(), 2U);
  for (const auto& segment : sink.segments()) {
    EXPECT_EQ(std::filesystem::file_size(sink.path_of(segment)), kDefaultSegment);
  }
  // A segment that was received whole is the server's own.
  EXPECT_TRUE(content(sink.path_of(sink.segments()[0])) ==
              content(server_.data_directory() / "pg_wal" /
                      wal_segment_name(1, sink.segments()[0].segment, kDefaultSegment)));
  const BackupWalSummary summary =
      summarize_backup_wal({.reader = {.major = 15,
                                       .wal_segment_bytes = kDefaultSegment,
                                       .start = session.start_lsn(),
                                       .system_identifier = control.system_identifier},
                            .end = stopped.stop},
                           wal_directory_input(spool_, 1, kDefaultSegment), {}, Stop::never());
  EXPECT_GT(summary.records, 300000U);
  EXPECT_TRUE(summary.last_commit_time);
}

TEST_F(Receiving, EndsWithinTwoSecondsOfAStop) {
  const auto receiver = connect();
  StopSource source;
  SpoolWalSink sink(spool_, kDefaultSegment);
  std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    source.request(StopReason::Shutdown);
  });
  const auto began = std::chrono::steady_clock::now();
  EXPECT_THROW(receiver->run(receiver->identity().flushed, 1, sink, source.stop()), Stopped);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
}

TEST_F(Receiving, LetsNeitherCommitsNorAShutdownWaitForIt) {
  const auto receiver = connect();
  SpoolWalSink sink(spool_, kDefaultSegment);
  std::jthread thread([&] {
    EXPECT_THROW(receiver->run(receiver->identity().flushed, 1, sink, Stop::never()), Error);
  });
  const auto ask = [&](const std::string& sql) { return server_.execute(sql); };
  ask("ALTER SYSTEM SET synchronous_standby_names = '*'");
  ask("SELECT pg_reload_conf()");
  const std::string before = ask("SELECT restart_lsn FROM pg_replication_slots").text(0, 0);
  ask("SET synchronous_commit = local; CREATE TABLE t AS SELECT 1");
  ask("SELECT pg_switch_wal()");
  const std::string moved =
      "SELECT restart_lsn > '" + before + "' FROM pg_replication_slots WHERE active";
  for (int i = 0; i < 200 && !ask(moved).boolean(0, 0); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_TRUE(ask(moved).boolean(0, 0));
  const QueryResult state =
      ask("SELECT sync_state, coalesce(flush_lsn::text, 'none') FROM pg_stat_replication");
  EXPECT_EQ(state.text(0, 0), "async");
  EXPECT_EQ(state.text(0, 1), "none");
  // In the midst of a segment, of which nothing counts as flushed.
  ask("SET synchronous_commit = local; CREATE TABLE u AS SELECT 1");
  server_.stop();
}

TEST_F(Receiving, FollowsATimelineSwitch) {
  const Lsn start = *parse_lsn(server_.execute("SELECT pg_current_wal_lsn()").text(0, 0));
  server_.execute("CREATE TABLE t AS SELECT 1");
  server_.stop();
  std::ofstream(server_.data_directory() / "standby.signal").flush();
  server_.give(server_.data_directory() / "standby.signal");
  server_.start();
  server_.execute("SELECT pg_promote()");
  server_.execute("CREATE TABLE u AS SELECT 1");
  const Lsn end = *parse_lsn(server_.execute("SELECT pg_current_wal_lsn()").text(0, 0));
  const auto receiver = connect();
  EXPECT_EQ(receiver->identity().timeline, 2U);
  SpoolWalSink sink(spool_, kDefaultSegment);
  receiver->end_at(end);
  receiver->run(start, 1, sink, Stop::never());
  sink.finish();
  ASSERT_FALSE(sink.segments().empty());
  EXPECT_EQ(sink.segments().back().timeline, 2U);
  EXPECT_GE(receiver->received(), end);
  const auto history = parse_timeline_history(content(spool_ / "00000002.history"), "history");
  ASSERT_EQ(history.size(), 1U);
  EXPECT_EQ(history[0].timeline, 1U);
}

TEST_F(Receiving, SaysWhenTheWalIsGone) {
  const auto receiver = connect();
  SpoolWalSink sink(spool_, kDefaultSegment);
  for (int i = 0; i < 4; ++i) server_.execute("SELECT pg_switch_wal(); CHECKPOINT");
  try {
    receiver->run(Lsn{40}, 1, sink, Stop::never());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kUndefinedFile) << error.message();
  }
}

TEST_F(Receiving, DropsTheTemporarySlotWithTheConnection) {
  const auto slots = [&] {
    return server_.execute("SELECT count(*) FROM pg_replication_slots").integer(0, 0);
  };
  auto receiver = connect();
  EXPECT_EQ(slots(), 1);
  receiver.reset();
  for (int i = 0; i < 50 && slots() != 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(slots(), 0);
  Connection connection = server_.connect();
  create_physical_slot(connection, "kept", Stop::never());
  EXPECT_EQ(slots(), 1);
  drop_physical_slot(connection, "kept", Stop::never());
  drop_physical_slot(connection, "kept", Stop::never());
  EXPECT_EQ(slots(), 0);
}

TEST(BackupLabel, RefusesNonsense) {
  EXPECT_THROW(parse_backup_label("START WAL LOCATION: x\n"), Error);
  EXPECT_THROW(parse_backup_label(""), Error);
}

}  // namespace
}  // namespace holdfast::postgres
