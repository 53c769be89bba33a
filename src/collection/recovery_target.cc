#include "collection/recovery_target.h"

#include <fmt/format.h>

#include <set>

#include "base/error.h"
#include "collection/scope.h"

namespace holdfast::collection {

using postgres::Lsn;

namespace {

/// What the layer before and the one whose history is replayed know of a database's tables.
void join_scope(proto::ScopeDatabase& database, const proto::Manifest& holder) {
  if (database.tables().empty()) return;
  if (const proto::ScopeDatabase* later = find_scope(holder, database.oid())) {
    *database.mutable_later_relations() = later->relations();
    std::set<std::uint32_t> blank(database.blank_files().begin(), database.blank_files().end());
    blank.insert(later->blank_files().begin(), later->blank_files().end());
    database.mutable_blank_files()->Assign(blank.begin(), blank.end());
  }
  database.clear_files();
  for (const proto::HistoryFiles& files : holder.history().files()) {
    if (files.database() == database.oid()) *database.mutable_files() = files.files();
  }
}

}  // namespace

std::optional<RecoveryTarget> target_of(const proto::Manifest& layer) {
  if (!layer.has_recovery_target()) return std::nullopt;
  const proto::RecoveryTarget& target = layer.recovery_target();
  return RecoveryTarget{.timeline = target.timeline(),
                        .record = Lsn{target.record()},
                        .end = Lsn{target.end()},
                        .wal_layer = {}};
}

proto::RecoveryTarget to_proto(const RecoveryTarget& target) {
  proto::RecoveryTarget out;
  out.set_timeline(target.timeline);
  out.set_record(target.record.value);
  out.set_end(target.end.value);
  return out;
}

void extend_wal(proto::Manifest& layer, const postgres::TimelinePath& path, Lsn end) {
  const std::uint64_t bytes = layer.instance().wal_segment_bytes();
  const std::uint64_t first = segment_of(Lsn{layer.stop().position() - 1}, bytes);
  const std::uint64_t last = segment_of(Lsn{end.value - 1}, bytes);
  auto& wal = *layer.mutable_wal();
  // The file of a later timeline has what its ancestors wrote into the segment, too.
  while (!wal.empty() && wal.rbegin()->segment() >= first) wal.RemoveLast();
  for (std::uint64_t segment = first; segment <= last; ++segment) {
    auto& added = *wal.Add();
    added.set_timeline(path.of_segment(segment, bytes));
    added.set_segment(segment);
  }
}

void take_history(proto::Manifest& layer, const proto::Manifest& holder, Lsn end) {
  const std::uint64_t bytes = layer.instance().wal_segment_bytes();
  const Lsn start{layer.start().position()};
  const bool leads = holder.has_history() && holder.base().backup_uuid() == layer.backup_uuid() &&
                     holder.base().start().position() == start.value && start < end &&
                     end <= Lsn{holder.stop().position()} && bytes != 0;
  const auto refuse = [&] {
    return Error(sqlstate::kDataCorrupted,
                 fmt::format("the WAL of layer \"{}\" does not lead from \"{}\" to {}",
                             holder.subdirectory(), layer.subdirectory(), to_string(end)));
  };
  if (!leads) throw refuse();
  for (proto::ScopeDatabase& database : *layer.mutable_scope_databases()) {
    join_scope(database, holder);
  }
  layer.set_wal_directory(holder.wal_directory());
  layer.clear_wal();
  std::uint64_t next = segment_of(start, bytes);
  const std::uint64_t last = segment_of(Lsn{end.value - 1}, bytes);
  for (const auto* list : {&holder.history().wal(), &holder.wal()}) {
    for (const proto::WalSegment& segment : *list) {
      if (next > last) return;
      if (segment.segment() != next++) throw refuse();
      *layer.add_wal() = segment;
    }
  }
  if (next <= last) throw refuse();
}

}  // namespace holdfast::collection
