#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backup/received_wal.h"
#include "base/bytes.h"
#include "base/mutex.h"
#include "base/stop.h"
#include "collection/frame.h"
#include "collection/wal_archive.h"
#include "manifest.pb.h"
#include "postgres/connection.h"
#include "postgres/lsn.h"
#include "postgres/wal_reader.h"
#include "postgres/wal_receiver.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Keeps the WAL of a running backup: receives it by streaming replication into a spool directory
/// and moves complete segments on to the collection's archive. The server holds the WAL back for it
/// through a temporary replication slot from the first moment to the last. Slow storage makes the
/// spool grow, up to its limit, and never holds PostgreSQL up.
class WalKeeper {
 public:
  struct Options {
    storage::ObjectStore* store = nullptr;
    postgres::ConnectOptions connect;
    std::string slot;
    std::filesystem::path spool;  ///< an empty directory of its own
    std::uint64_t system_identifier = 0;
    std::uint64_t segment_bytes = 0;
    collection::Compression compression;
    /// All WAL and the timelines' histories stay in the spool, for somebody else to store.
    bool spool_only = false;
    /// The most WAL that may wait in the spool, in bytes, beside some archived segments; 0: no
    /// bound. Past it receiving fails with SQLSTATE 53400.
    std::uint64_t spool_limit = 0;
    /// Called before a segment is put that the archive lacks.
    std::function<void(const collection::WalSegmentId&)> before_put;
  };

  /// Connects and creates the slot: from here on the server keeps its WAL. Throws Error, Stopped.
  WalKeeper(Options options, const Stop& stop);
  /// Ends the threads; what is in the spool stays there.
  ~WalKeeper();
  WalKeeper(const WalKeeper&) = delete;
  WalKeeper& operator=(const WalKeeper&) = delete;

  /// Begins to receive, from the segment that holds `start`. `stop` outlives the keeper.
  void start(postgres::Lsn start, postgres::TimelineId timeline, const Stop& stop);

  /// Throws what made receiving or archiving fail, if anything did.
  void check() const;

  /// Waits until every segment with WAL before `end` is whole in the archive, and archives the
  /// history files of the timelines. With spool_only both are in the spool.
  void finish(postgres::Lsn end, const Stop& stop);
  /// The archived segments, in order; all that the backup needs, after finish().
  std::vector<collection::proto::WalSegment> segments() const;

  /// The history files of the timelines that the WAL is of.
  std::vector<std::pair<postgres::TimelineId, Bytes>> histories() const;

  /// Up to where WAL was received.
  postgres::Lsn received() const { return receiver_->received(); }

  /// Reads the WAL again, after finish(): from the spool, or from the archive one segment at a
  /// time.
  postgres::WalInput input(const Stop& stop);

 private:
  class Sink;
  struct Spooled {
    postgres::WalSegment segment;
    ReceivedWal received;
  };

  void check_spool(std::size_t received) const;
  void receive(postgres::Lsn start, postgres::TimelineId timeline);
  void archive();
  collection::proto::WalSegment archive(const Spooled& spooled);
  std::uint64_t put(const Spooled& spooled, const Stop& stop);
  std::optional<Spooled> next_segment();
  void fail(std::exception_ptr failure);
  collection::WalSegmentId id_of(std::uint64_t segment) const;
  std::filesystem::path path_of(std::uint64_t segment) const;
  void fetch(std::uint64_t segment, const Stop& stop);

  const Options options_;
  std::unique_ptr<postgres::WalReceiver> receiver_;
  postgres::TimelineId timeline_ = 0;
  // Of input(): the segment known to be in the spool, and the one that was fetched for it.
  std::optional<std::uint64_t> present_;
  std::optional<std::uint64_t> fetched_;

  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_:
  std::deque<Spooled> waiting_ HF_GUARDED_BY(mutex_);
  std::vector<collection::proto::WalSegment> archived_ HF_GUARDED_BY(mutex_);
  std::vector<std::pair<postgres::TimelineId, Bytes>> histories_ HF_GUARDED_BY(mutex_);
  std::exception_ptr failure_ HF_GUARDED_BY(mutex_);
  bool received_all_ HF_GUARDED_BY(mutex_) = false;

  StopSource stop_;
  // Passes the job's stop on to the threads.
  using StopLink = std::stop_callback<std::function<void()>>;
  std::unique_ptr<StopLink> link_;
  std::jthread receiving_;
  std::jthread archiving_;
};

}  // namespace holdfast::backup
