#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/stop.h"
#include "base/unique_fd.h"
#include "postgres/connection.h"
#include "postgres/lsn.h"

namespace holdfast::postgres {

/// Takes received WAL, called on the receiver's thread. Bytes come in order, from the first byte of
/// a segment; a segment is written by several write() calls between begin_segment and end_segment.
class WalSink {
 public:
  virtual ~WalSink() = default;
  virtual void begin_segment(TimelineId timeline, std::uint64_t segment) = 0;
  virtual void write(std::uint64_t offset, ByteView bytes) = 0;
  /// The segment is complete. Not called for one that the stream ends in.
  virtual void end_segment() = 0;
  /// The history file of a timeline that is about to be streamed (never for timeline 1).
  virtual void timeline_history(TimelineId timeline, ByteView content) = 0;
  /// Up to where the server is not needed any more, and may recycle WAL. Zero: nothing yet.
  virtual Lsn done() const = 0;
};

/// Writes segment files into a directory: "<name>.partial" while it grows, "<name>" when complete.
/// What lies in the directory already is overwritten. Nothing is synced: who uses a spool reads it
/// in the same run, and after a crash begins anew with other WAL.
class SpoolWalSink : public WalSink {
 public:
  SpoolWalSink(std::filesystem::path directory, std::uint64_t wal_segment_bytes);
  ~SpoolWalSink() override;

  void begin_segment(TimelineId timeline, std::uint64_t segment) override;
  void write(std::uint64_t offset, ByteView bytes) override;
  void end_segment() override;
  void timeline_history(TimelineId timeline, ByteView content) override;
  Lsn done() const override { return done_; }

  /// Completes the segment that the stream ended in: the rest is zeros, which PostgreSQL reads as
  /// the end of WAL. Call it after WalReceiver::run returned.
  void finish();
  /// The complete segment files, in the order received.
  const std::vector<WalSegment>& segments() const { return segments_; }
  std::filesystem::path path_of(const WalSegment& segment) const;

 private:
  std::filesystem::path partial_path() const;

  std::filesystem::path directory_;
  std::uint64_t wal_segment_bytes_;
  UniqueFd file_;
  WalSegment current_;
  Lsn done_;
  std::vector<WalSegment> segments_;
};

/// What IDENTIFY_SYSTEM answers.
struct SystemIdentity {
  std::uint64_t system_identifier = 0;
  TimelineId timeline = 0;
  Lsn flushed;
};

struct WalReceiverOptions {
  /// replication is set by the receiver.
  ConnectOptions connect{};
  std::uint64_t wal_segment_bytes = 0;
  /// Empty: none. With `temporary_slot` it is created at connect and gone with the connection;
  /// without, it must exist.
  std::string slot{};
  bool temporary_slot = false;
  /// How often the server hears from us at least; well below wal_sender_timeout.
  std::chrono::milliseconds status_interval{5'000};
};

/// Receives WAL over a physical replication connection. connect() first (the slot then holds WAL
/// back), run() on a thread of its own. Never a synchronous standby: neither commits nor a shutdown
/// of the server wait for it.
class WalReceiver {
 public:
  /// Connects, identifies, creates the temporary slot (with RESERVE_WAL). Throws Error, Stopped.
  static std::unique_ptr<WalReceiver> connect(const WalReceiverOptions& options, const Stop& stop);
  ~WalReceiver();

  const SystemIdentity& identity() const { return identity_; }

  /// Streams from the first byte of the segment that holds `start` on `timeline`, following
  /// timeline switches, until end_at()'s position is received and handed to the sink (returns),
  /// `stop` is requested (throws Stopped) or it fails (throws Error; kUndefinedFile when the server
  /// no longer has the WAL). Runs once.
  void run(Lsn start, TimelineId timeline, WalSink& sink, const Stop& stop);

  /// Where to end; from any thread, also while run() runs. The server's next segment may have been
  /// reached already: run() then returns at once.
  void end_at(Lsn end);

  /// The first byte not yet handed to the sink. From any thread.
  Lsn received() const { return Lsn{received_.load()}; }

 private:
  WalReceiver(Connection connection, WalReceiverOptions options);
  struct Streamed;
  Streamed stream(Lsn start, TimelineId timeline, WalSink& sink, const Stop& stop);
  void take(Lsn position, TimelineId timeline, ByteView bytes, WalSink& sink);
  void send_status(const WalSink& sink, const Stop& stop);
  void send_positions(Lsn flushed, const Stop& stop);
  void fetch_history(TimelineId timeline, WalSink& sink, const Stop& stop);

  Connection connection_;
  WalReceiverOptions options_;
  SystemIdentity identity_;
  std::atomic<std::uint64_t> received_{0};
  std::atomic<std::uint64_t> end_{0};  // 0: none
  UniqueFd wake_;                      // an eventfd: end_at() wakes the poll
  std::optional<std::uint64_t> open_segment_;
  Lsn confirmed_;  // up to where the slot was moved on
};

/// Creates and drops a permanent physical slot over `connection` (not a replication one).
void create_physical_slot(Connection& connection, const std::string& name, const Stop& stop);
/// Absent slots are fine.
void drop_physical_slot(Connection& connection, const std::string& name, const Stop& stop);

}  // namespace holdfast::postgres
