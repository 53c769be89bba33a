#include "cli/wal_fetch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/encryption.h"
#include "collection/kms_guard.h"
#include "collection/wal_archive.h"
#include "collection/wal_recovery.h"
#include "io/file.h"
#include "io/file_system.h"
#include "postgres/lsn.h"
#include "storage/kms.h"
#include "storage/open_store.h"

extern char** environ;

namespace holdfast::cli {

namespace {

namespace fs = std::filesystem;
using collection::WalSegmentId;

constexpr int kServed = 0;
constexpr int kNotThere = 1;
/// Above 125 PostgreSQL aborts recovery. Source: PostgreSQL src/common/wait_error.c
/// (wait_result_is_any_signal).
constexpr int kFailed = 126;

/// How far ahead is fetched, and with how many threads.
constexpr std::uint64_t kAheadBytes = 256ULL << 20;
constexpr std::uint64_t kMostAhead = 16;
constexpr std::size_t kWorkers = 4;

/// The configuration file and what it leads to.
class Source {
 public:
  explicit Source(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) throw_errno(fmt::format("read file \"{}\"", path));
    if ((status.st_mode & 077) != 0) {
      throw Error(sqlstate::kConfigFileError,
                  fmt::format("file \"{}\" is open to other users", path))
          .hint("It holds credentials: chmod 600.");
    }
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      const auto equals = line.find('=');
      if (equals != std::string::npos) values_[line.substr(0, equals)] = line.substr(equals + 1);
    }
    system_identifier_ = number("system-identifier");
    segment_bytes_ = number("wal-segment-size");
    if (!postgres::valid_wal_segment_bytes(segment_bytes_)) {
      throw Error(sqlstate::kConfigFileError, "invalid wal-segment-size");
    }
    const std::string node = values_.contains("node-id") ? values_["node-id"] : "1";
    store_ = storage::open_store(text("collection"),
                                 {.external_io_dir = values_["external-io-dir"], .node_id = node});
  }

  /// Where the WAL is encrypted, its key is looked for when the first object is wanted: what lies
  /// in the spool needs none.
  storage::ObjectStore& store() const {
    if (!opened_) open_keys();
    return *store_;
  }
  std::uint64_t system_identifier() const { return system_identifier_; }
  std::uint64_t segment_bytes() const { return segment_bytes_; }
  WalSegmentId id(const postgres::WalSegment& segment) const {
    return {.system_identifier = system_identifier_,
            .timeline = segment.timeline,
            .segment = segment.segment,
            .segment_bytes = segment_bytes_};
  }

 private:
  const std::string& text(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end() || found->second.empty()) {
      throw Error(sqlstate::kConfigFileError,
                  fmt::format("the configuration of wal-fetch lacks \"{}\"", name));
    }
    return found->second;
  }
  std::uint64_t number(const std::string& name) const {
    const std::string& digits = text(name);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) {
      throw Error(sqlstate::kConfigFileError, fmt::format("\"{}\" is no number", name));
    }
    return value;
  }

  /// Null where the configuration names no key.
  std::unique_ptr<collection::KeyGuard> guard() const {
    if (const auto found = values_.find("encryption-passphrase"); found != values_.end()) {
      return std::make_unique<collection::PassphraseGuard>(found->second);
    }
    if (const auto found = values_.find("kms"); found != values_.end()) {
      std::vector<std::unique_ptr<storage::KmsKey>> keys;
      keys.push_back(storage::open_kms(found->second, {}));
      return std::make_unique<collection::KmsGuard>(std::move(keys));
    }
    return nullptr;
  }

  void open_keys() const {
    if (const auto guard = this->guard()) {
      auto key = collection::open_wal(*store_, system_identifier_, *guard, collection::WalKey::Find,
                                      Stop::never());
      if (!key) {
        throw Error(sqlstate::kConfigFileError,
                    "could not find or read encryption information: ENCRYPTION-INFO not found")
            .detail("The collection has no encrypted WAL of this server.")
            .hint("Take encryption-passphrase and kms out of the configuration of wal-fetch.");
      }
      store_ =
          collection::with_keys(std::move(store_), {.chain = std::nullopt, .wal = std::move(key)});
    } else {
      collection::require_no_key(*store_, system_identifier_, Stop::never());
    }
    opened_ = true;
  }

  std::map<std::string, std::string> values_;
  mutable std::unique_ptr<storage::ObjectStore> store_;
  mutable bool opened_ = false;  // whether store_ knows its keys
  std::uint64_t system_identifier_ = 0;
  std::uint64_t segment_bytes_ = 0;
};

/// Segments that were fetched ahead. A file in it is whole: it gets its name when it is.
class Spool {
 public:
  explicit Spool(const std::string& config) : directory_(config + ".spool") {}

  fs::path path_of(const std::string& name) const { return directory_ / name; }
  bool has(const std::string& name) const { return fs::exists(path_of(name)); }

  bool take(const std::string& name, const std::string& target) const {
    std::error_code failure;
    fs::rename(path_of(name), target, failure);
    if (!failure) return true;
    if (failure == std::errc::no_such_file_or_directory) return false;
    // Another file system.
    fs::copy_file(path_of(name), target, fs::copy_options::overwrite_existing, failure);
    if (failure) return false;
    fs::remove(path_of(name), failure);
    return true;
  }

  /// What recovery has passed, or left for another timeline.
  void forget_all_but_after(const std::string& name) const {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(directory_, ignored)) {
      const std::string found = entry.path().filename();
      if (found.size() == 24 && (found.substr(0, 8) != name.substr(0, 8) || found < name)) {
        fs::remove(entry.path(), ignored);
      }
    }
  }
  void clear() const {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }

  /// Held by the one process that fills the spool; absent when another does.
  std::optional<UniqueFd> lock() const {
    fs::create_directories(directory_);
    fs::permissions(directory_, fs::perms::owner_all);
    UniqueFd file(::open(path_of("lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file) throw_errno("lock the spool of wal-fetch");
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
    return file;
  }

 private:
  fs::path directory_;
};

std::string name_of(const Source& source, const postgres::WalSegment& segment) {
  return postgres::wal_segment_name(segment.timeline, segment.segment, source.segment_bytes());
}

/// Writes `target` whole or not at all.
template <typename Write>
bool write_whole_file(const std::string& target, Write write) {
  const std::string part = target + ".holdfast";
  if (!write(part)) return false;
  fs::rename(part, target);
  return true;
}

bool fetch_segment(const Source& source, const WalSegmentId& id, const std::string& target) {
  return write_whole_file(target, [&](const std::string& part) {
    return get_wal_segment_file(source.store(), id, part, Stop::never());
  });
}

/// Lets a child of its own session fetch on, so that PostgreSQL need not wait for it.
void start_prefetch(const WalFetchOptions& options) {
  const std::array<const char*, 8> arguments = {
      "holdfast",   "wal-fetch",          "--config", options.config.c_str(),
      "--prefetch", options.name.c_str(), "-",        nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int fd : {0, 1, 2}) {
    posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t child = 0;
  // Without it recovery is slower, nothing else.
  posix_spawn(&child, "/proc/self/exe", &actions, &attributes,
              const_cast<char* const*>(arguments.data()), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
}

std::uint64_t ahead(const Source& source) {
  return std::clamp<std::uint64_t>(kAheadBytes / source.segment_bytes(), 1, kMostAhead);
}

int prefetch(const Source& source, const Spool& spool, const postgres::WalSegment& after) {
  const auto lock = spool.lock();
  if (!lock) return kServed;
  source.store();  // opened before threads share it
  std::atomic<std::uint64_t> drawn = after.segment + 1;
  const std::uint64_t end = after.segment + 1 + ahead(source);
  run_workers(kWorkers, Stop::never(), [&](std::size_t, const Stop& stop) {
    for (std::uint64_t next = drawn++; next < end && !stop.requested(); next = drawn++) {
      const postgres::WalSegment segment{after.timeline, next};
      const std::string name = name_of(source, segment);
      if (!spool.has(name) && !fetch_segment(source, source.id(segment), spool.path_of(name))) {
        return;
      }
    }
  });
  return kServed;
}

/// What is not there makes PostgreSQL end its recovery, and begin a new timeline, without a
/// complaint: said only of an archive that is one.
int not_there(const WalFetchOptions& options, const Source& source) {
  try {
    collection::require_wal_archive(source.store(), source.system_identifier(), Stop::never());
  } catch (Error& error) {
    // Web servers have no lists. Of those only a history file is said to be absent: a segment that
    // is not there has failed before.
    if (error.state() == sqlstate::kFeatureNotSupported) return kNotThere;
    if (error.state() == sqlstate::kUndefinedFile) {
      error.hint(fmt::format(
          "Verify that the storage is mounted, and that collection and "
          "system-identifier in file \"{}\" are right (pg_controldata shows the latter). A "
          "copy that needs no WAL of an archive needs no restore_command.",
          options.config));
    }
    throw;
  }
  return kNotThere;
}

int serve_segment(const WalFetchOptions& options, const Source& source, const Spool& spool,
                  const postgres::WalSegment& segment) {
  const WalSegmentId id = source.id(segment);
  spool.forget_all_but_after(options.name);
  if (spool.take(options.name, options.target) || fetch_segment(source, id, options.target)) {
    // Half of the way ahead is done: time to go on.
    const postgres::WalSegment middle{segment.timeline, segment.segment + (ahead(source) + 1) / 2};
    if (!spool.has(name_of(source, middle))) start_prefetch(options);
    return kServed;
  }
  const bool served = write_whole_file(options.target, [&](const std::string& part) {
    return get_wal_for_recovery(source.store(), id, part, Stop::never());
  });
  return served ? kServed : not_there(options, source);
}

int serve_history(const WalFetchOptions& options, const Source& source, const Spool& spool,
                  postgres::TimelineId timeline) {
  // Asked for when recovery begins and when it ends.
  spool.clear();
  const auto content = collection::get_timeline_history(source.store(), source.system_identifier(),
                                                        timeline, Stop::never());
  if (!content) return not_there(options, source);
  write_whole_file(options.target, [&](const std::string& part) {
    io::FileSystem& files = io::FileSystem::real();
    const UniqueFd file = io::open_file(files, part, O_WRONLY | O_CREAT | O_TRUNC);
    io::pwrite_all(files, file.get(), *content, 0, part);
    return true;
  });
  return kServed;
}

int fetch(const WalFetchOptions& options) {
  const Source source(options.config);
  const Spool spool(options.config);
  if (const auto segment = postgres::parse_wal_segment_name(options.name, source.segment_bytes())) {
    if (options.prefetch) return prefetch(source, spool, *segment);
    return serve_segment(options, source, spool, *segment);
  }
  if (const auto timeline = postgres::parse_timeline_history_name(options.name)) {
    return serve_history(options, source, spool, *timeline);
  }
  return kNotThere;  // such as a backup history file, which nothing needs
}

}  // namespace

int run_wal_fetch(const WalFetchOptions& options) {
  try {
    return fetch(options);
  } catch (const Error& error) {
    fmt::print(stderr, "holdfast wal-fetch: {}\n", error.message());
    if (!error.detail().empty()) fmt::print(stderr, "detail: {}\n", error.detail());
    if (!error.hint().empty()) fmt::print(stderr, "hint: {}\n", error.hint());
  } catch (const std::exception& error) {
    fmt::print(stderr, "holdfast wal-fetch: {}\n", error.what());
  }
  return kFailed;
}

}  // namespace holdfast::cli
