#include "backup/base_layer.h"

#include <fmt/core.h>

#include <cstdint>
#include <map>

#include "backup/backup_run_internal.h"
#include "base/error.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/wal_archive.h"
#include "io/file.h"
#include "postgres/versions.h"
#include "postgres/wal_reader.h"

namespace holdfast::backup {

namespace {

using collection::proto::Manifest;

constexpr std::string_view kTakeAFull = "Start a new chain with BACKUP INTO.";
constexpr std::uint64_t kLongestHistory = 16U << 20;

Error cannot_continue(std::string message) {
  return Error(sqlstate::kObjectNotInPrerequisiteState, std::move(message))
      .hint(std::string(kTakeAFull));
}

/// A layer on one that cannot be restored would be no backup either.
void require_packs(storage::ObjectStore& store, const Manifest& base, const Stop& stop) {
  if (base.packs().empty()) return;
  std::map<storage::ObjectKey, std::uint64_t> there;
  store.list(
      data_prefix(base.subdirectory()),
      [&](const storage::ObjectInfo& info) { there.emplace(info.key, info.size); }, stop);
  for (const auto& pack : base.packs()) {
    const auto key = collection::pack_key(base.subdirectory(), pack.number());
    const auto found = there.find(key);
    if (found != there.end() && found->second == pack.size()) continue;
    throw cannot_continue(
        fmt::format("the previous backup \"{}\" is not complete", base.subdirectory()))
        .detail(found == there.end()
                    ? fmt::format("Its object \"{}\" is missing in {}.", key, store.description())
                    : fmt::format("Its object \"{}\" has {} bytes instead of {}.", key,
                                  found->second, pack.size()));
  }
}

Error other_history(const Manifest& base, std::string_view what_tells) {
  return cannot_continue("the server has another history than the previous backup")
      .detail(fmt::format(
          "It was set back to an earlier state without a new timeline, as a snapshot of its disk "
          "does, so that its pages cannot be compared with those of \"{}\": {}.",
          base.subdirectory(), what_tells));
}

// Source: PostgreSQL src/include/access/xlog_internal.h (SizeOfXLogShortPHD, SizeOfXLogLongPHD).
constexpr std::uint64_t kShortPageHeader = 24;
constexpr std::uint64_t kLongPageHeader = 40;
// Source: PostgreSQL src/include/catalog/pg_control.h (XLOG_BACKUP_END), whose data is the place
// where the backup began; src/include/access/xlogrecord.h for its length, aligned.
constexpr std::uint8_t kBackupEnd = 0x50;
constexpr std::uint64_t kBackupEndBytes = 40;

/// Where the record begins that ends a backup at `stop`.
postgres::Lsn backup_end_record(postgres::Lsn stop, std::uint64_t wal_segment_bytes) {
  const std::uint64_t in_page = stop.value % postgres::kWalPageBytes;
  const std::uint64_t header =
      stop.value % wal_segment_bytes < postgres::kWalPageBytes ? kLongPageHeader : kShortPageHeader;
  const bool crosses = in_page != 0 && in_page < header + kBackupEndBytes;
  return postgres::Lsn{stop.value - kBackupEndBytes - (crosses ? header : 0)};
}

}  // namespace

void require_end_in_wal(const Manifest& base, const std::string& wal_directory,
                        const postgres::TimelinePath& path) {
  // Those of standbys and of moments in WAL end without a record of their own.
  if (base.has_recovery_target() ||
      base.backup_label().find("BACKUP FROM: primary\n") == std::string::npos) {
    return;
  }
  const auto& instance = base.instance();
  const postgres::Lsn stop{base.stop().position()};
  const postgres::Lsn record = backup_end_record(stop, instance.wal_segment_bytes());
  const auto input =
      postgres::wal_directory_input(wal_directory, path, instance.wal_segment_bytes());
  // By the first page of the file: what a switch leaves of it is zeros.
  const std::uint64_t segment = segment_of(record, instance.wal_segment_bytes());
  const auto has_place = [&] {
    return postgres::has_wal_page(input,
                                  postgres::segment_start(segment, instance.wal_segment_bytes()),
                                  instance.wal_segment_bytes());
  };
  const auto is_there = [&] {
    postgres::WalReader reader(
        {.major = postgres::major_of(static_cast<int>(instance.server_version_num())),
         .wal_segment_bytes = instance.wal_segment_bytes(),
         .start = record,
         .system_identifier = instance.system_identifier()},
        input);
    const postgres::WalRecord* found = reader.next();
    return found != nullptr && found->resource_manager == 0 && (found->info & 0xf0) == kBackupEnd &&
           found->main_data.size() == sizeof(std::uint64_t) &&
           load<std::uint64_t>(found->main_data, 0) == base.start().position();
  };
  // The server may recycle the file meanwhile.
  if (!has_place() || is_there() || !has_place()) return;
  throw other_history(
      base, fmt::format("its WAL does not have the end of that backup at {}", to_string(stop)));
}

Manifest read_base_layer(storage::ObjectStore& store, std::string_view full,
                         std::string_view directory, const Stop& stop) {
  auto layers = collection::list_layers(store, full, stop);
  // Layers are in the order of their names, whichever was finished first.
  std::erase_if(layers, [&](const std::string& layer) { return layer >= directory; });
  if (layers.empty()) {
    // CockroachDB's words (reference, section 3.2).
    throw Error(
        sqlstate::kUndefinedFile,
        fmt::format("No full backup exists in \"{}\" to append an incremental backup to.", full))
        .hint(
            "To take a full backup, remove the subdirectory from the backup command (i.e. run "
            "'BACKUP ... INTO <collectionURI>').");
  }
  Manifest base = std::move(collection::read_manifests(store, {layers.back()}, stop).front());
  require_packs(store, base, stop);
  return base;
}

void refer_to(const Manifest& base, collection::proto::LayerReference& reference) {
  reference.set_directory(base.subdirectory());
  reference.set_backup_uuid(base.backup_uuid());
  *reference.mutable_start() = base.start();
  *reference.mutable_stop() = base.stop();
  reference.set_end_time_us(base.end_time_us());
}

postgres::TimelinePath read_timeline_path(storage::ObjectStore& store,
                                          const std::filesystem::path& data_directory,
                                          std::uint64_t system_identifier,
                                          postgres::TimelineId timeline, const Stop& stop) {
  if (timeline == 1) return postgres::TimelinePath(1, {});
  const std::string name = postgres::timeline_history_name(timeline);
  const std::string path = (data_directory / "pg_wal" / name).string();
  auto content = io::read_whole(io::FileSystem::real(), path, kLongestHistory);
  if (!content) {
    content = collection::get_timeline_history(store, system_identifier, timeline, stop);
  }
  if (!content) {
    throw cannot_continue(fmt::format("the history of timeline {} is not known", timeline))
        .detail(fmt::format("\"{}\" is neither in pg_wal nor in the collection.", name));
  }
  return postgres::TimelinePath(timeline,
                                postgres::parse_timeline_history(as_text(*content), name));
}

void require_same_cluster(const Manifest& base, const postgres::ControlFile& control) {
  const auto& instance = base.instance();
  if (instance.system_identifier() != control.system_identifier) {
    // CockroachDB's words (reference, section 3.4).
    throw cannot_continue(
        fmt::format("previous BACKUP belongs to cluster {}", instance.system_identifier()))
        .detail(fmt::format("This cluster's system identifier is {}.", control.system_identifier));
  }
  if (instance.catalog_version() != control.catalog_version) {
    throw cannot_continue("the cluster was upgraded since the previous backup");
  }
  if (instance.data_checksum_version() != control.data_checksum_version) {
    throw cannot_continue("page checksums were switched on or off since the previous backup")
        .detail("pg_checksums rewrites pages without WAL.");
  }
}

void require_same_history(const Manifest& base, const LayerStart& start,
                          const postgres::TimelinePath& path) {
  const postgres::Lsn base_stop{base.stop().position()};
  if (!path.contains(base.stop().timeline(), base_stop)) {
    throw cannot_continue(
        fmt::format("the previous backup is not in the history of timeline {}", start.timeline))
        .detail(fmt::format(
            "\"{}\" ends at {} on timeline {}, which this server did not reach: it was restored "
            "to an earlier moment, or promoted before.",
            base.subdirectory(), to_string(base_stop), base.stop().timeline()));
  }
  const postgres::Lsn least =
      start.from_standby ? postgres::Lsn{base.start().position()} : base_stop;
  if (start.position < least) {
    throw cannot_continue("the server is behind the previous backup")
        .detail(fmt::format("Its WAL is at {}, \"{}\" ends at {}.", to_string(start.position),
                            base.subdirectory(), to_string(base_stop)));
  }
}

bool has_replayed(const Manifest& base, const postgres::ControlFile& control,
                  const postgres::TimelinePath& path) {
  const postgres::Lsn base_stop{base.stop().position()};
  if (!control.min_recovery_point.valid()) return false;  // it has not replayed anything
  // A position says nothing without its timeline: beyond a switch, the ancestor's WAL is another's.
  if (!path.contains(base.stop().timeline(), base_stop) ||
      !path.contains(control.min_recovery_timeline, control.min_recovery_point)) {
    throw cannot_continue("the standby does not follow the history of the previous backup")
        .detail(fmt::format("Its pages are those of timeline {} at {}, \"{}\" ends at {} on "
                            "timeline {}.",
                            control.min_recovery_timeline, to_string(control.min_recovery_point),
                            base.subdirectory(), to_string(base_stop), base.stop().timeline()));
  }
  return control.min_recovery_point >= base_stop;
}

Error not_replayed(const Manifest& base, const postgres::ControlFile& control) {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               "the standby has not replayed to the end of the previous backup")
      .detail(fmt::format("Its pages are consistent from {} on, \"{}\" ends at {}.",
                          to_string(control.min_recovery_point), base.subdirectory(),
                          to_string(postgres::Lsn{base.stop().position()})))
      .hint(
          "Run CHECKPOINT on the primary, wait until the standby has replayed it, and try again.");
}

void require_page_comparison_allowed(const Manifest& base, const collection::Changes& changes,
                                     bool revision_history) {
  if (changes.other_history) {
    throw other_history(base, changes.reason);
  }
  if (changes.wal_minimal) {
    throw cannot_continue("WAL was written with wal_level = minimal since the previous backup")
        .detail("Such WAL does not tell all that changed.");
  }
  if (revision_history) {
    throw cannot_continue("the WAL since the previous backup is not complete")
        .detail(fmt::format("Revision history needs all WAL since \"{}\": {}.", base.subdirectory(),
                            changes.reason));
  }
}

}  // namespace holdfast::backup
