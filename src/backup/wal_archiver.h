#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/stop.h"
#include "base/unique_fd.h"
#include "collection/block_map.h"
#include "collection/frame.h"
#include "collection/segment_maps.h"
#include "collection/wal_archive.h"
#include "postgres/lsn.h"
#include "postgres/timeline_path.h"
#include "storage/object_store.h"

namespace holdfast::backup {

enum class WalArchiveMode {
  Maps,  ///< block maps only: what incremental backups need; costs next to no storage
  Full   ///< and the WAL itself: what restoring to any moment needs
};

struct WalArchiverOptions {
  storage::ObjectStore* store = nullptr;  ///< outlives the archiver
  std::uint64_t system_identifier = 0;
  int major = 0;
  std::uint64_t wal_segment_bytes = 0;
  postgres::TimelinePath path;
  std::string wal_directory;  ///< the instance's pg_wal
  collection::Compression compression{};
};

/// Moves WAL from pg_wal into a collection's archive: finished segments with their block maps, and
/// the beginning of the one that is being written. Knows nothing of servers and jobs: it is told up
/// to where WAL is flushed. Used by one thread.
///
/// Only flushed WAL is read, straight from the server's files; every page must say that it is the
/// one wanted, so that a file which the server recycles meanwhile is never taken for the old one.
/// What is put first must continue what the archive has before it: a server that was set back on
/// its timeline may have come past the place where the archive ended.
class WalArchiver {
 public:
  /// Begins with the first byte of `segment`.
  WalArchiver(WalArchiverOptions options, std::uint64_t segment);

  /// Whether the file of the first segment to archive is still there, from its first page on.
  bool has_first_segment() const;

  /// Archives finished segments before `flushed`, some at a time; false when none was left. Throws
  /// ArchiveEnded when a file is not the WAL that it should be (kDataCorrupted), or of another
  /// history than the archive.
  bool archive_some(WalArchiveMode mode, postgres::Lsn flushed, const Stop& stop);
  /// Puts what is flushed of the segment after those. False when there is nothing new.
  bool put_tail(postgres::Lsn flushed, const Stop& stop);

  /// Everything before is in the collection for good, so the server need not keep it. The start of
  /// a segment.
  postgres::Lsn durable() const;
  /// Everything before is in the collection, tails included (in mode Full).
  postgres::Lsn archived() const;
  /// Where reading records stands; behind the flushed position by an unfinished record only.
  postgres::Lsn read() const { return maps_.position(); }
  /// The timeline that the beginning of the first unfinished segment is kept under.
  postgres::TimelineId timeline() const { return id_of(next_).timeline; }
  const std::string& read_end_reason() const { return maps_.end_reason(); }
  /// Whether the collection says that this archive is kept.
  bool marked() const { return marked_; }

 private:
  class Turns;

  collection::WalSegmentId id_of(std::uint64_t segment) const;
  std::string path_of(std::uint64_t segment) const;
  void read_maps(postgres::Lsn flushed, const Stop& stop);
  void put_segment(std::uint64_t segment, Turns& turns, const Stop& stop);
  void mark(const Stop& stop);
  bool continues_maps(postgres::Lsn flushed, const Stop& stop);
  bool continues_tail(postgres::Lsn flushed, const Stop& stop);
  void require_same_history(WalArchiveMode mode, postgres::Lsn flushed, const Stop& stop);
  void learn_tails(const Stop& stop);
  void remove_tails(std::uint64_t segment, const Stop& stop);

  WalArchiverOptions options_;
  std::uint64_t next_;  ///< the first segment that is not archived whole
  collection::SegmentMapBuilder maps_;
  std::vector<std::uint64_t> tails_;  // lengths put for next_, ascending
  bool marked_ = false;               // whether the collection says that this archive is kept
  bool tails_listed_ = false;         // whether those of an earlier process are among them
  // What of another process's, or an earlier stay's, is known to lead to what is put now:
  bool continues_maps_ = false;
  bool continues_tail_ = false;
  std::optional<collection::BlockMap> map_before_;  // of the segment before the first one
};

}  // namespace holdfast::backup
