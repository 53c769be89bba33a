#include "restore/recovery_target.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "collection/collection.h"
#include "collection/wal_archive.h"
#include "collection/wal_archive_input.h"
#include "io/file.h"
#include "io/file_system.h"
#include "postgres/control_file.h"
#include "postgres/timeline_path.h"
#include "postgres/versions.h"
#include "postgres/wal_scan.h"
#include "restore/recovery_files.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;
using postgres::Lsn;

constexpr std::uint64_t kLongestHistory = 1ULL << 20;

postgres::TimelinePath path_to(const proto::RecoveryTarget& target, storage::ObjectStore& store,
                               const Manifest& layer, const Stop& stop) {
  auto path = collection::get_timeline_path(store, layer.instance().system_identifier(),
                                            target.timeline(), stop, layer.wal_directory());
  if (!path) {
    throw Error(sqlstate::kUndefinedFile,
                fmt::format("the history of timeline {} is not in the archive", target.timeline()));
  }
  return std::move(*path);
}

/// What recovery replays.
struct ReplayedWal {
  postgres::WalRange range;
  postgres::TimelinePath path;
};

ReplayedWal replayed_wal(const proto::RecoveryTarget* target, storage::ObjectStore& store,
                         const Manifest& layer, const Stop& stop) {
  const auto& instance = layer.instance();
  return {.range = {.reader = {.major = postgres::major_of(
                                   static_cast<int>(instance.server_version_num())),
                               .wal_segment_bytes = instance.wal_segment_bytes(),
                               .start = Lsn{layer.start().position()},
                               .system_identifier = instance.system_identifier()},
                    .end = Lsn{target != nullptr ? target->end() : layer.stop().position()}},
          // A backup ends on the timeline that it began on.
          .path = target != nullptr ? path_to(*target, store, layer, stop)
                                    : postgres::TimelinePath(layer.stop().timeline(), {})};
}

}  // namespace

void add_wal_up_to(const proto::RecoveryTarget& target, storage::ObjectStore& store,
                   Manifest& layer, const Stop& stop) {
  if (!target.wal_layer().empty()) {
    const auto holder = collection::read_manifest(store, target.wal_layer(), stop);
    if (!holder) {
      throw Error(sqlstate::kUndefinedFile,
                  fmt::format("backup \"{}\" does not exist any more", target.wal_layer()));
    }
    return collection::take_history(layer, *holder, Lsn{target.end()});
  }
  const auto path = path_to(target, store, layer, stop);
  collection::extend_wal(layer, path, Lsn{target.end()});
}

void adopt_target(const Manifest& layer, proto::RestoreJobSpec& spec) {
  if (spec.has_target()) return;
  if (const auto own = collection::target_of(layer)) set_target(*own, spec);
}

void set_target(const collection::RecoveryTarget& target, proto::RestoreJobSpec& spec) {
  spec.mutable_target()->set_timeline(target.timeline);
  spec.mutable_target()->set_record(target.record.value);
  spec.mutable_target()->set_end(target.end.value);
  spec.mutable_target()->set_wal_layer(target.wal_layer);
}

void require_last_record(const proto::RecoveryTarget& target, Lsn last) {
  if (last == Lsn{target.record()}) return;
  throw Error(sqlstate::kDataCorrupted, fmt::format("the WAL does not lead to the record at {}",
                                                    to_string(Lsn{target.record()})))
      .detail(fmt::format("The last record before {} is at {}.", to_string(Lsn{target.end()}),
                          to_string(last)));
}

CheckedWal check_wal(const proto::RecoveryTarget* target, const Manifest& layer,
                     const Layout& layout, storage::ObjectStore& store, const Stop& stop) {
  const auto wal = replayed_wal(target, store, layer, stop);
  const std::uint64_t bytes = wal.range.reader.wal_segment_bytes;
  CheckedWal checked{
      .files = {.directory = layout.root + "/pg_wal", .path = wal.path, .segment_bytes = bytes},
      .tablespaces = {}};
  Lsn last;
  postgres::scan_wal(
      wal.range, postgres::wal_directory_input(checked.files.directory, wal.path, bytes),
      [&](const postgres::WalRecord& record) {
        last = record.start;
        if (auto made = replayed_tablespace(record)) checked.tablespaces.push_back(*made);
      },
      stop);
  if (target != nullptr) require_last_record(*target, last);
  return checked;
}

std::vector<ReplayedTablespace> read_tablespaces(const proto::RecoveryTarget* target,
                                                 const Manifest& layer, storage::ObjectStore& store,
                                                 const Stop& stop) {
  const auto wal = replayed_wal(target, store, layer, stop);
  const auto input =
      collection::archive_input(store,
                                {.system_identifier = layer.instance().system_identifier(),
                                 .wal_segment_bytes = wal.range.reader.wal_segment_bytes,
                                 .path = wal.path},
                                stop, wal.range.end);
  std::vector<ReplayedTablespace> tablespaces;
  postgres::scan_wal(
      wal.range, input,
      [&](const postgres::WalRecord& record) {
        if (auto made = replayed_tablespace(record)) tablespaces.push_back(std::move(*made));
      },
      stop);
  return tablespaces;
}

void require_recovered_to(const proto::RecoveryTarget& target, const std::string& data_directory) {
  const auto timeline = timeline_of_directory(data_directory);
  const std::string name = postgres::timeline_history_name(timeline);
  const auto text =
      io::read_whole(io::FileSystem::real(), data_directory + "/pg_wal/" + name, kLongestHistory);
  if (!text) {
    throw Error(sqlstate::kDataCorrupted,
                fmt::format("the restored server has no history of its timeline {}", timeline));
  }
  const auto ancestors = postgres::parse_timeline_history(as_text(*text), name);
  if (!ancestors.empty() && ancestors.back().timeline == target.timeline() &&
      ancestors.back().switch_point == Lsn{target.end()}) {
    return;
  }
  throw Error(sqlstate::kDataCorrupted,
              fmt::format("the server recovered to {} of timeline {} instead of {} of timeline {}",
                          ancestors.empty() ? "nowhere" : to_string(ancestors.back().switch_point),
                          ancestors.empty() ? 0 : ancestors.back().timeline,
                          to_string(Lsn{target.end()}), target.timeline()));
}

}  // namespace holdfast::restore
