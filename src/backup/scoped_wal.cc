#include "backup/scoped_wal.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <system_error>

#include "base/error.h"
#include "base/log.h"
#include "io/file.h"
#include "postgres/lsn.h"
#include "postgres/wal_changes.h"

namespace holdfast::backup {

namespace {

using postgres::Lsn;

constexpr std::size_t kPieceBytes = 1U << 20;
// Source: PostgreSQL src/include/access/xlog_internal.h (XLOG_BLCKSZ, XLogPageHeaderData).
constexpr std::uint64_t kPageBytes = 8192;
constexpr std::uint64_t kShortHeader = 24;
constexpr std::uint64_t kRecordAlignment = 8;

/// Collects filtered pages into segments and puts each as it becomes whole.
class SegmentWriter {
 public:
  SegmentWriter(const ScopedWalRequest& request, const Stop& stop)
      : request_(request), stop_(stop), path_((request.spool / "scoped.wal").string()) {}

  void take(Lsn position, ByteView pages) {
    const std::uint64_t bytes = request_.filter.wal_segment_bytes;
    while (!pages.empty()) {
      const std::uint64_t offset = position.value % bytes;
      if (!fd_) fd_ = io::open_file(files_, path_, O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const auto now =
          static_cast<std::size_t>(std::min<std::uint64_t>(pages.size(), bytes - offset));
      io::pwrite_all(files_, fd_.get(), pages.first(now), offset, path_);
      if (offset + now == bytes) put(position.value / bytes);
      pages = pages.subspan(now);
      position.value += now;
    }
  }

  std::vector<collection::proto::WalSegment> segments() && { return std::move(segments_); }

 private:
  void put(std::uint64_t segment) {
    fd_ = UniqueFd();
    auto& stored = segments_.emplace_back();
    stored.set_timeline(request_.timeline);
    stored.set_segment(segment);
    stored.set_stored_bytes(
        collection::put_wal_segment_file(request_.store,
                                         {.system_identifier = request_.system_identifier,
                                          .timeline = request_.timeline,
                                          .segment = segment,
                                          .segment_bytes = request_.filter.wal_segment_bytes,
                                          .directory = request_.directory},
                                         path_, request_.compression, stop_));
    io::remove_file(files_, path_);
  }

  const ScopedWalRequest& request_;
  const Stop& stop_;
  io::FileSystem& files_ = io::FileSystem::real();
  const std::string path_;
  UniqueFd fd_;
  std::vector<collection::proto::WalSegment> segments_;
};

/// What becomes of files, as far as the records say it outright.
class HistoryReader final : public postgres::WalChangeVisitor {
 public:
  HistoryReader(const postgres::WalScope& scope, FileHistory& history)
      : scope_(scope), history_(history) {}

  void block(const postgres::WalBlock&) override {}
  void from(const postgres::BlockKey& first) override {
    const bool content = first.fork == postgres::Fork::Main || first.fork == postgres::Fork::Init;
    if (content && first.block == 0 && scope_.wants_database(first.relation.database)) {
      history_.created.emplace(first.relation.database, first.relation.relation);
    }
  }
  void relation(const postgres::RelationLocator&) override {}
  void database(std::uint32_t, std::uint32_t) override {}

 private:
  const postgres::WalScope& scope_;
  FileHistory& history_;
};

}  // namespace

postgres::WalInput scoped_wal_input(const ScopedWalRequest& request) {
  const std::uint64_t bytes = request.filter.wal_segment_bytes;
  auto received = postgres::wal_directory_input(request.spool.string(), request.timeline, bytes);
  if (request.first_received == 0) return received;
  auto kept = postgres::wal_directory_input(request.server_wal, request.timeline, bytes);
  return [first = request.first_received, received = std::move(received), kept = std::move(kept)](
             std::uint64_t segment, std::uint64_t offset, MutableByteView out) {
    return (segment < first ? kept : received)(segment, offset, out);
  };
}

Lsn scoped_wal_end(Lsn stop, std::uint64_t wal_segment_bytes) {
  std::uint64_t next = (stop.value + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
  if (next % wal_segment_bytes == 0) return stop;
  if (next % kPageBytes == 0) next += kShortHeader;
  return Lsn{next + 1};
}

std::vector<collection::proto::WalSegment> store_scoped_wal(const ScopedWalRequest& request,
                                                            const postgres::WalScope& scope,
                                                            const Stop& stop) {
  for (const auto& [timeline, content] : request.histories) {
    collection::put_timeline_history(request.store, request.system_identifier, timeline, content,
                                     stop, request.directory);
  }
  const std::uint64_t bytes = request.filter.wal_segment_bytes;
  postgres::WalFilter filter(request.filter, scope);
  SegmentWriter writer(request, stop);
  const auto output = [&](Lsn position, ByteView pages) { writer.take(position, pages); };
  const auto input = scoped_wal_input(request);
  const std::uint64_t last = postgres::segment_of(Lsn{request.filter.end.value - 1}, bytes);
  Bytes piece(kPieceBytes);
  for (auto segment = postgres::segment_of(request.filter.start, bytes); segment <= last;
       ++segment) {
    for (std::uint64_t offset = 0; offset < bytes; offset += piece.size()) {
      stop.check();
      if (!input(segment, offset, piece)) {
        throw Error(sqlstate::kUndefinedFile,
                    segment < request.first_received
                        ? fmt::format("PostgreSQL no longer has WAL segment {}",
                                      postgres::wal_segment_name(request.timeline, segment, bytes))
                        : std::string("WAL of the backup is missing in the spool directory"));
      }
      filter.push(piece, output);
    }
  }
  if (!filter.complete()) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "the WAL segment that the backup ends in ends within a record")
        .hint("Take the backup again.")
        .retry(Retry::Safe);
  }
  filter.finish(output);
  log::info("WAL of the scope stored, records={} replaced={}", filter.records(), filter.replaced());
  return std::move(writer).segments();
}

FileHistory read_file_history(const postgres::WalRange& range, const postgres::WalInput& input,
                              const postgres::WalScope& scope,
                              std::optional<postgres::Lsn> listed_from, const Stop& stop) {
  FileHistory history;
  HistoryReader reader(scope, history);
  postgres::scan_wal(
      range, input,
      [&](const postgres::WalRecord& record) {
        if (record.resource_manager == postgres::rmgr::kSmgr) {
          postgres::visit_changes(record, range.reader.major, reader);
        }
        const auto end = postgres::parse_xact_record(record, range.reader.major);
        if (!end || !end->commit) return;
        for (const auto& relation : end->dropped) {
          if (scope.wants_database(relation.database)) {
            history.dropped.emplace(relation.database, relation.relation);
          }
        }
        if (!listed_from || record.start < *listed_from) return;
        for (const auto& relation : postgres::redefined_relations(record, range.reader.major)) {
          history.redefined.insert(relation);
        }
      },
      stop);
  return history;
}

DatabaseFiles read_new_files(const postgres::WalRange& range, const postgres::WalInput& input,
                             const postgres::WalScope& scope, const Stop& stop) {
  DatabaseFiles files;
  postgres::scan_wal(
      range, input,
      [&](const postgres::WalRecord& record) {
        const auto created = postgres::parse_file_creation(record);
        const bool content = created && (created->fork == postgres::Fork::Main ||
                                         created->fork == postgres::Fork::Init);
        if (content && scope.wants(created->relation)) {
          files.emplace(created->relation.database, created->relation.relation);
        }
      },
      stop);
  return files;
}

}  // namespace holdfast::backup
