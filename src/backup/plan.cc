#include "backup/plan.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "backup/read_error.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "postgres/control_file.h"
#include "postgres/relation_path.h"
#include "postgres/scope_files.h"

namespace holdfast::backup {

namespace {

using collection::proto::FileKind;

constexpr std::uint32_t kDefaultDirectoryMode = 0700;
constexpr mode_t kModeBits = 07777;
/// How long a dropped tablespace's link may outlive its directory.
constexpr int kDropTries = 20;
constexpr std::chrono::milliseconds kDropWait{50};

struct DirCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirCloser>;

std::string join(std::string_view directory, std::string_view name) {
  return directory.empty() ? std::string(name) : fmt::format("{}/{}", directory, name);
}

class Scanner {
 public:
  Scanner(const PlanRequest& request, Plan& plan, const Stop& stop)
      : request_(request), plan_(plan), stop_(stop) {}

  void scan_data_directory() {
    find_tablespaces();
    // The data directory itself may be a link, whose own mode says nothing.
    struct stat status {};
    const std::string root = request_.data_directory.string();
    if (::stat(root.c_str(), &status) != 0) throw_unreadable("read directory", root, errno);
    scan(root, "", status);
  }

  void add_external(const std::string& path) {
    struct stat status {};
    const std::string found = request_.outside_root.string() + path;
    // What a configuration names may be a link (Debian's /etc is often kept by other tools).
    if (::stat(found.c_str(), &status) != 0) {
      if (errno == ENOENT) return;
      throw_unreadable("read", found, errno);
    }
    if (!S_ISREG(status.st_mode)) return;
    plan_.files.add_file({.directory = FileTable::kNoDirectory,
                          .name = path,
                          .size = static_cast<std::uint64_t>(status.st_size),
                          .mode = status.st_mode & kModeBits,
                          .kind = FileKind::FILE_KIND_EXTERNAL_CONFIG});
  }

 private:
  /// Tablespaces may lie inside the data directory (PostgreSQL warns of it): they must not be taken
  /// twice.
  void find_tablespaces() {
    const std::string links = (request_.data_directory / "pg_tblspc").string();
    Directory directory(opendir(links.c_str()));
    if (!directory) throw_unreadable("open directory", links, errno);
    while (const dirent* entry = readdir(directory.get())) {
      const std::string name = entry->d_name;
      const auto oid = parse_oid(name);
      if (!oid) continue;
      std::error_code failure;
      const auto target =
          std::filesystem::read_symlink(std::filesystem::path(links) / name, failure);
      if (failure) continue;  // an in-place tablespace is a plain directory
      auto& tablespace = plan_.tablespaces.emplace_back();
      tablespace.set_oid(*oid);
      tablespace.set_location(target.string());
      const auto real = std::filesystem::canonical(target, failure);
      if (!failure) tablespace_directories_.insert(real.string());
    }
    std::ranges::sort(plan_.tablespaces, {}, [](const auto& space) { return space.oid(); });
  }

  static std::optional<std::uint32_t> parse_oid(std::string_view text) {
    if (text.empty() || text.size() > 10) return std::nullopt;
    std::uint64_t value = 0;
    for (const char digit : text) {
      if (digit < '0' || digit > '9') return std::nullopt;
      value = value * 10 + static_cast<std::uint64_t>(digit - '0');
    }
    if (value == 0 || value > 0xFFFFFFFFU) return std::nullopt;
    return static_cast<std::uint32_t>(value);
  }

  static std::vector<std::string> sorted_names(DIR* directory, const std::string& path) {
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = readdir(directory)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
      errno = 0;
    }
    if (errno != 0) throw_unreadable("read directory", path, errno);
    std::ranges::sort(names);
    return names;
  }

  /// `absolute` is where the directory lies, `relative` its path in the backup.
  void scan(const std::string& absolute, const std::string& relative, const struct stat& status) {
    stop_.check();
    Directory directory(opendir(absolute.c_str()));
    if (!directory) {
      if (errno == ENOENT && !relative.empty()) return;
      throw_unreadable("open directory", absolute, errno);
    }
    const std::uint32_t index = plan_.files.add_directory(relative, status.st_mode & kModeBits);
    const std::vector<std::string> names = sorted_names(directory.get(), absolute);
    postgres::UnloggedRelations unlogged;
    for (const std::string& name : names) unlogged.add(name);

    for (const std::string& name : names) {
      struct stat found {};
      if (fstatat(dirfd(directory.get()), name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        throw_unreadable("read", join(absolute, name), errno);
      }
      const std::string path = join(relative, name);
      const auto relation = postgres::parse_relation_path(path);
      const bool is_relation = relation.has_value();
      if (is_relation && unlogged.leaves_out(name)) continue;
      if (!in_scope(path, found)) continue;
      switch (postgres::backup_rule(
          path, S_ISDIR(found.st_mode) || leads_to_directory(absolute, name, found))) {
        case postgres::BackupRule::Take:
          add({.directory = index,
               .absolute = join(absolute, name),
               .path = path,
               .name = name,
               .status = found,
               .is_relation = is_relation,
               .is_main_fork = is_relation && relation->fork == postgres::Fork::Main});
          break;
        case postgres::BackupRule::KeepEmpty:
          plan_.files.add_directory(path, mode_of_directory(found));
          break;
        case postgres::BackupRule::Skip:
          break;
      }
    }
  }

  bool in_scope(const std::string& path, const struct stat& status) const {
    if (request_.scope == nullptr) return true;
    return S_ISREG(status.st_mode) ? postgres::file_in_scope(path, *request_.scope)
                                   : postgres::directory_in_scope(path, *request_.scope);
  }

  /// pg_wal and pg_stat_tmp are often links.
  static bool leads_to_directory(const std::string& parent, const std::string& name,
                                 const struct stat& status) {
    struct stat target {};
    return S_ISLNK(status.st_mode) && ::stat(join(parent, name).c_str(), &target) == 0 &&
           S_ISDIR(target.st_mode);
  }

  struct Entry {
    std::uint32_t directory;  ///< its parent's index
    std::string absolute;
    std::string path;
    std::string name;
    struct stat status;
    bool is_relation;
    bool is_main_fork;
  };

  void add(const Entry& entry) {
    const mode_t mode = entry.status.st_mode;
    if (S_ISLNK(mode) && entry.path.starts_with("pg_tblspc/")) {
      scan_tablespace(entry.absolute, entry.path);
    } else if (S_ISDIR(mode) && is_tablespace_location(entry.absolute)) {
      plan_.files.add_directory(entry.path, mode & kModeBits);
    } else if (S_ISDIR(mode)) {
      scan(entry.absolute, entry.path, entry.status);
    } else if (S_ISREG(mode)) {
      FileKind kind = FileKind::FILE_KIND_PLAIN;
      if (entry.is_relation) kind = FileKind::FILE_KIND_RELATION;
      if (entry.path == postgres::kControlFilePath) kind = FileKind::FILE_KIND_CONTROL;
      plan_.files.add_file({.directory = entry.directory,
                            .name = entry.name,
                            .size = static_cast<std::uint64_t>(entry.status.st_size),
                            .mode = mode & kModeBits,
                            .kind = kind,
                            .by_blocks = entry.is_main_fork});
    } else if (holds_data(entry.path)) {
      throw Error(sqlstate::kFeatureNotSupported,
                  fmt::format("\"{}\" is neither a file nor a directory", entry.absolute))
          .detail("A backup without what it leads to could not be restored.")
          .hint("Put the data itself there, in a tablespace, or mount a file system in its place.");
    } else {
      plan_.skipped.push_back(entry.path);
    }
  }

  /// Whether a cluster cannot do without what lies there.
  static bool holds_data(std::string_view path) {
    constexpr std::array<std::string_view, 8> kDirectories = {
        "base",         "global",    "pg_commit_ts", "pg_logical",
        "pg_multixact", "pg_tblspc", "pg_twophase",  "pg_xact"};
    return std::ranges::find(kDirectories, path.substr(0, path.find('/'))) != kDirectories.end();
  }

  /// Links to directories elsewhere become directories with PostgreSQL's usual mode.
  static std::uint32_t mode_of_directory(const struct stat& status) {
    return S_ISDIR(status.st_mode) ? status.st_mode & kModeBits : kDefaultDirectoryMode;
  }

  void scan_tablespace(const std::string& link, const std::string& path) {
    const std::string location = link + "/" + request_.tablespace_version_directory;
    struct stat status {};
    if (lstat(location.c_str(), &status) != 0) {
      const int failure = errno;
      // Dropped meanwhile: the server removes the directory, and the link right after it. A
      // location that is not mounted looks the same but for the link, which stays.
      for (int tries = 0; failure == ENOENT && tries < kDropTries; ++tries) {
        if (lstat(link.c_str(), &status) != 0 && errno == ENOENT) return;
        stop_.sleep(kDropWait);
      }
      throw_unreadable("read directory", location, failure);
    }
    scan(location, path + "/" + request_.tablespace_version_directory, status);
  }

  bool is_tablespace_location(const std::string& absolute) const {
    if (tablespace_directories_.empty()) return false;
    std::error_code failure;
    const auto real = std::filesystem::canonical(absolute, failure);
    return !failure && tablespace_directories_.contains(real.string());
  }

  const PlanRequest& request_;
  Plan& plan_;
  const Stop& stop_;
  std::set<std::string> tablespace_directories_;
};

}  // namespace

Plan make_plan(const PlanRequest& request, const Stop& stop) {
  Plan plan;
  Scanner scanner(request, plan, stop);
  const std::set<std::filesystem::path> external(request.outside_files.begin(),
                                                 request.outside_files.end());
  for (const auto& path : external) scanner.add_external(path);
  scanner.scan_data_directory();
  return plan;
}

}  // namespace holdfast::backup
