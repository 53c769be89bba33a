#include "collection/wal_recovery.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <string_view>

#include "base/error.h"
#include "collection/format.h"
#include "collection/names_internal.h"
#include "collection/wal_tail.h"
#include "io/file.h"
#include "io/file_system.h"
#include "postgres/lsn.h"

namespace holdfast::collection {

using storage::ObjectStore;

namespace {

/// How often a tail may be replaced by a longer one between its listing and its reading. The
/// archiver writes at most one a second.
constexpr int kMostTailsMissed = 20;

/// Whether the archive has a later segment of this timeline, or the beginning of one.
bool has_wal_after(ObjectStore& store, const WalSegmentId& id, const Stop& stop) {
  const auto whole =
      list_wal_segments(store, id.system_identifier, id.timeline, id.segment_bytes, stop);
  if (!whole.empty() && whole.back() > id.segment) return true;
  const std::string directory = wal_timeline_directory(id.system_identifier, id.timeline);
  bool found = false;
  store.list(
      directory,
      [&](const storage::ObjectInfo& info) {
        const std::string_view name = std::string_view(info.key).substr(directory.size() + 1);
        if (!name.ends_with(kWalTailSuffix)) return;
        const auto segment =
            postgres::parse_wal_segment_name(name.substr(0, name.find('.')), id.segment_bytes);
        if (segment && segment->segment > id.segment) found = true;
      },
      stop);
  return found;
}

bool get_tail_file(ObjectStore& store, const WalSegmentId& id, std::uint64_t bytes,
                   const std::string& path, const Stop& stop) {
  io::FileSystem& files = io::FileSystem::real();
  const UniqueFd file = io::open_file(files, path, O_WRONLY | O_CREAT | O_TRUNC);
  bool got = false;
  try {
    got = get_wal_tail(
        store, id, bytes,
        [&](std::uint64_t offset, ByteView part) {
          io::pwrite_all(files, file.get(), part, offset, path);
        },
        stop);
    if (got && ::ftruncate(file.get(), static_cast<off_t>(id.segment_bytes)) != 0) {
      throw_errno(fmt::format("extend file \"{}\"", path));
    }
  } catch (...) {
    // Also when stopped: PostgreSQL must not find half a tail.
    io::remove_file(files, path);
    throw;
  }
  if (!got) io::remove_file(files, path);
  return got;
}

}  // namespace

bool get_wal_for_recovery(ObjectStore& store, const WalSegmentId& id, const std::string& path,
                          const Stop& stop) {
  if (get_wal_segment_file(store, id, path, stop)) return true;
  // Segments are put several at a time, and backups put those that they need: a segment may be late
  // rather than lost. To stop then is right, too: which of the two it is, the archive cannot tell.
  const bool goes_on = has_wal_after(store, id, stop);
  for (int missed = 0; missed < kMostTailsMissed; ++missed) {
    const auto tails = list_wal_tails(store, id, stop);
    // Tails go away when the segment is whole, which it may have become by now.
    if (get_wal_segment_file(store, id, path, stop)) return true;
    if (goes_on) {
      throw Error(
          sqlstate::kUndefinedFile,
          fmt::format("WAL segment {} is missing in the archive, which goes on after it",
                      postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes)))
          .detail("Recovery would take the gap for the end of WAL.")
          .hint(
              fmt::format("Try again while the server still archives. If the segment is lost, set "
                          "recovery_target_lsn to a position before {} to recover up to it.",
                          to_string(postgres::segment_start(id.segment, id.segment_bytes))));
    }
    if (tails.empty()) return false;
    if (get_tail_file(store, id, tails.front(), path, stop)) return true;
  }
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("could not read the beginning of WAL segment {} in the archive",
                          postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes)))
      .detail("It was listed, but not there, again and again.");
}

void require_wal_archive(ObjectStore& store, std::uint64_t system_identifier, const Stop& stop) {
  // The names of timelines are one request; the WAL itself may be a hundred thousand objects.
  const std::string directory = fmt::format("{}/{}", kWalDirectory, system_identifier);
  if (!store.list_directories(directory, stop).empty()) return;
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("collection \"{}\" has no WAL of the server with system identifier {}",
                          store.description(), system_identifier))
      .detail("Recovery would take that for the end of WAL.");
}

std::optional<std::uint64_t> get_wal_or_tail(ObjectStore& store, const WalSegmentId& id,
                                             const WalWriter& write, const Stop& stop) {
  if (get_wal_segment(store, id, write, stop)) return id.segment_bytes;
  // A tail goes away when a longer one, or the whole segment, takes its place.
  for (int missed = 0; missed < kMostTailsMissed; ++missed) {
    const auto tails = list_wal_tails(store, id, stop);
    if (tails.empty()) break;
    if (get_wal_tail(store, id, tails.front(), write, stop)) return tails.front();
  }
  if (get_wal_segment(store, id, write, stop)) return id.segment_bytes;
  return std::nullopt;
}

}  // namespace holdfast::collection
