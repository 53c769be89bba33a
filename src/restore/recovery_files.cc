#include "restore/recovery_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "collection/format.h"
#include "collection/wal_archive.h"
#include "io/file.h"
#include "postgres/control_file.h"
#include "postgres/lsn.h"
#include "postgres/versions.h"

namespace holdfast::restore {
namespace {

using collection::proto::Manifest;

constexpr std::string_view kBlockBegin = "# begin of holdfast's recovery settings";
constexpr std::string_view kBlockEnd = "# end of holdfast's recovery settings";
constexpr std::string_view kAutoConf = "postgresql.auto.conf";
/// Takes the block out again, in a server that holdfast does not look after: a standby that is made
/// of it would stop and promote itself at the same place. The server's working directory is its
/// data directory; the temporary name is ALTER SYSTEM's own, which no backup takes.
constexpr std::string_view kRemoveBlock =
    "sed \"/^# begin of holdfast.s recovery settings$/,/^# end of holdfast.s recovery "
    "settings$/d\" "
    "postgresql.auto.conf > postgresql.auto.conf.tmp && "
    "{ sync postgresql.auto.conf.tmp || true; } && "
    "mv postgresql.auto.conf.tmp postgresql.auto.conf";
constexpr std::uint64_t kAutoConfLimit = 16U << 20;

void write_plain(io::FileSystem& files, const std::string& path, ByteView bytes, mode_t mode) {
  io::remove_file(files, path);
  const UniqueFd fd = io::open_file(files, path, O_WRONLY | O_CREAT | O_EXCL, mode);
  if (::fchmod(fd.get(), mode) != 0) {
    throw_errno(fmt::format("set permissions of file \"{}\"", path));
  }
  io::write_all(files, fd.get(), bytes, path);
}

/// Source: PostgreSQL src/backend/access/transam/xlog.c (do_pg_backup_start): line breaks and
/// backslashes in paths are escaped by a backslash.
std::string tablespace_map(const Layout& layout) {
  std::string map;
  for (const auto& space : layout.tablespaces) {
    map += fmt::format("{} ", space.oid);
    for (const char c : space.location) {
      if (c == '\n' || c == '\r' || c == '\\') map += '\\';
      map += c;
    }
    map += '\n';
  }
  return map;
}

/// Settings that an earlier recovery may have left in the configuration are emptied: the server
/// refuses more than one target, and their commands belong to another archive. They come first,
/// because up to version 17 an empty target after a set one counts as a second target. Source:
/// PostgreSQL src/backend/utils/misc/guc.c, src/backend/access/transam/xlogrecovery.c
/// (assign_recovery_target_time).
std::string recovery_settings(const proto::RecoveryTarget* target, std::string_view timeline,
                              int major) {
  const std::string end =
      target == nullptr ? std::string("recovery_target_lsn = ''\nrecovery_target = 'immediate'\n")
                        : fmt::format(
                              "recovery_target = ''\n"
                              "recovery_target_lsn = '{}'\n"
                              "recovery_target_inclusive = on\n",
                              to_string(postgres::Lsn{target->record()}));
  return fmt::format(
      "{}\n"
      "recovery_target_name = ''\n"
      "recovery_target_time = ''\n"
      "recovery_target_xid = ''\n"
      "{}"
      "recovery_target_action = 'promote'\n"
      "recovery_target_timeline = '{}'\n"
      // All WAL that is needed lies in pg_wal.
      "restore_command = 'false'\n"
      "archive_cleanup_command = ''\n"
      "recovery_end_command = '{}'\n"
      // No query may see the cluster before its recovery ends; and a host with smaller limits than
      // the old one's can still recover.
      "hot_standby = off\n"
      // Everything is durable already; the server need not open each file to make sure. Source:
      // PostgreSQL 14, src/backend/storage/file/fd.c (SyncDataDirectory).
      "{}"
      "{}\n",
      kBlockBegin, end, timeline, kRemoveBlock,
      major >= 14 ? "recovery_init_sync_method = 'syncfs'\n" : "", kBlockEnd);
}

/// Makes PostgreSQL believe that a timeline is taken. Nothing ever follows such a timeline: the
/// recovery does not target it, and the server's own history does not contain it.
std::string placeholder_history(std::uint32_t timeline, std::uint64_t end) {
  return fmt::format("{}\t{}\ttimeline number taken before this restore\n", timeline,
                     postgres::to_string(postgres::Lsn{end}));
}

/// Segments without this the server hands over as if it had just written them, to an archive that
/// has them already, perhaps with other bytes. Source: PostgreSQL
/// src/backend/access/transam/xlogarchive.c (XLogArchiveCheckDone), and pg_basebackup's own:
/// src/backend/backup/basebackup.c (perform_base_backup).
void keep_from_archive(const Manifest& manifest, const Layout& layout, io::FileSystem& files) {
  for (const auto& wal : manifest.wal()) {
    const std::string segment = postgres::wal_segment_name(wal.timeline(), wal.segment(),
                                                           manifest.instance().wal_segment_bytes());
    write_plain(files, fmt::format("{}/pg_wal/archive_status/{}.done", layout.root, segment), {},
                layout.file_mode());
  }
}

}  // namespace

std::uint32_t timeline_of_directory(const std::string& data_directory) {
  std::uint32_t highest = 0;
  try {
    const auto control = postgres::read_control_file(data_directory);
    highest = std::max(control.timeline, control.min_recovery_timeline);
  } catch (const Error& error) {
    log::info("timeline of \"{}\" is not known: {}", data_directory, error.message());
  }
  const std::string wal = data_directory + "/pg_wal";
  const UniqueFd fd(::open(wal.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return highest;
  for (const auto& entry : io::read_directory(fd.get(), wal)) {
    if (const auto timeline = postgres::parse_timeline_history_name(entry.name)) {
      highest = std::max(highest, *timeline);
    }
  }
  return highest;
}

std::uint32_t highest_timeline(storage::ObjectStore& store, const Manifest& manifest,
                               std::uint32_t of_replaced, const Stop& stop) {
  std::uint32_t highest = std::max(of_replaced, manifest.stop().timeline());
  const std::uint64_t system = manifest.instance().system_identifier();
  std::vector<std::string> directories;
  try {
    directories =
        store.list_directories(fmt::format("{}/{}", collection::kWalDirectory, system), stop);
  } catch (const Error& error) {
    // A web server cannot list. Each timeline but the first has a history, one after the other.
    if (error.state() != sqlstate::kFeatureNotSupported) throw;
    while (collection::get_timeline_history(store, system, highest + 1, stop)) ++highest;
  }
  for (const auto& name : directories) {
    std::uint32_t timeline = 0;
    const auto [end, failure] =
        std::from_chars(name.data(), name.data() + name.size(), timeline, 16);
    if (failure == std::errc() && end == name.data() + name.size()) {
      highest = std::max(highest, timeline);
    }
  }
  return highest;
}

void write_recovery_files(const Manifest& manifest, const proto::RecoveryTarget* target,
                          const Layout& layout, std::uint32_t highest_timeline,
                          storage::ObjectStore& store, io::FileSystem& files, const Stop& stop) {
  const auto path = [&](std::string_view name) { return fmt::format("{}/{}", layout.root, name); };
  const auto wal_path = [&](std::string_view name) {
    return fmt::format("{}/pg_wal/{}", layout.root, name);
  };
  const mode_t mode = layout.file_mode();
  write_plain(files, path("backup_label"), as_bytes(manifest.backup_label()), mode);
  if (const std::string map = tablespace_map(layout); !map.empty()) {
    write_plain(files, path("tablespace_map"), as_bytes(map), mode);
  }
  write_plain(files, path("recovery.signal"), {}, mode);

  // A partial one's WAL comes otherwise, to a server that archives nothing.
  if (!layout.partial) keep_from_archive(manifest, layout, files);

  const std::uint32_t timeline =
      target != nullptr ? target->timeline() : manifest.stop().timeline();
  const std::uint64_t end = target != nullptr ? target->end() : manifest.stop().position();
  // Without a history file the server takes a number other than 1 for a mistake; the control file
  // of the backup says the same then.
  std::string to_follow = timeline == 1 ? "1" : "current";
  const auto history = collection::get_timeline_history(
      store, manifest.instance().system_identifier(), timeline, stop, manifest.wal_directory());
  if (history) {
    write_plain(files, wal_path(postgres::timeline_history_name(timeline)), *history, mode);
    to_follow = std::to_string(timeline);
  }
  for (std::uint32_t taken = timeline + 1; taken <= highest_timeline; ++taken) {
    write_plain(files, wal_path(postgres::timeline_history_name(taken)),
                as_bytes(placeholder_history(timeline, end)), mode);
  }

  const int major = postgres::major_of(static_cast<int>(manifest.instance().server_version_num()));
  const auto now = io::read_whole(files, path(kAutoConf), kAutoConfLimit);
  std::string text = now ? without_recovery_settings(as_text(*now)) : std::string();
  if (!text.empty() && !text.ends_with('\n')) text += '\n';
  write_plain(files, path(kAutoConf), as_bytes(text + recovery_settings(target, to_follow, major)),
              mode);
}

std::string without_recovery_settings(std::string_view text) {
  // Half a block is not ours to judge.
  if (text.find(kBlockEnd) == std::string_view::npos) return std::string(text);
  std::string kept;
  bool inside = false;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end);
    const std::string_view word = line.substr(0, line.find_last_not_of("\r\n") + 1);
    if (word == kBlockBegin) inside = true;
    if (!inside) kept += line;
    if (word == kBlockEnd) inside = false;
  }
  return kept;
}

void write_control_file(const Layout& layout, const Bytes& content, io::FileSystem& files) {
  const std::string path = fmt::format("{}/{}", layout.root, postgres::kControlFilePath);
  postgres::parse_control_file(content, path);
  io::write_file_atomically(files, path, content, layout.file_mode());
  // Whatever the umask made of it.
  if (::chmod(path.c_str(), layout.file_mode()) != 0) {
    throw_errno(fmt::format("set permissions of file \"{}\"", path));
  }
}

void remove_recovery_settings(const std::string& data_directory, io::FileSystem& files) {
  const std::string path = fmt::format("{}/{}", data_directory, kAutoConf);
  const auto now = io::read_whole(files, path, kAutoConfLimit);
  if (!now) return;
  const std::string text = without_recovery_settings(as_text(*now));
  if (text == as_text(*now)) return;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw_errno(fmt::format("read file \"{}\"", path));
  io::write_file_atomically(files, path, as_bytes(text), status.st_mode & 07777);
  // Whatever the umask made of it.
  if (::chmod(path.c_str(), status.st_mode & 07777) != 0) {
    throw_errno(fmt::format("set permissions of file \"{}\"", path));
  }
}

}  // namespace holdfast::restore
