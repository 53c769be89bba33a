#include "backup/wal_archive_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "backup/wal_holds.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "collection/object_lock.h"
#include "collection/wal_time_mark.h"
#include "io/file.h"
#include "io/file_system.h"
#include "jobs/progress.h"
#include "postgres/connection.h"
#include "postgres/control_file.h"
#include "postgres/wal_position.h"
#include "postgres/wal_receiver.h"
#include "wal_archive_job.pb.h"

namespace holdfast::backup {

namespace {

using postgres::Lsn;
using postgres::TimelineId;

constexpr std::chrono::milliseconds kPoll{200};
constexpr std::chrono::milliseconds kFirstBackoff{500};
constexpr std::chrono::milliseconds kLongestBackoff{10'000};
/// A record that is still being written this long, with whole segments behind it, is damage.
constexpr std::chrono::seconds kStallPatience{60};
/// An idle server's slot is touched this often, so that idle_replication_slot_timeout (18) does not
/// take it for abandoned.
constexpr std::chrono::seconds kTouchSlot{60};

constexpr std::uint64_t kLongestHistoryFile = 1ULL << 20;

constexpr std::chrono::seconds kCommitDelay{1};
// Source: PostgreSQL src/include/access/xlog_internal.h (SizeOfXLogLongPHD).
constexpr std::uint64_t kLongestPageHeader = 40;

/// States that trying again does not change.
bool is_final(const Error& error) {
  constexpr std::array kStates = {sqlstate::kDataCorrupted,
                                  sqlstate::kDuplicateFile,
                                  sqlstate::kObjectNotInPrerequisiteState,
                                  sqlstate::kFeatureNotSupported,
                                  sqlstate::kInvalidParameterValue,
                                  sqlstate::kInsufficientPrivilege,
                                  sqlstate::kInternalError};
  return std::ranges::find(kStates, error.state()) != kStates.end();
}

Error archive_broken(std::string_view why, Lsn from) {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               fmt::format("the WAL archive ended at {}: {}", to_string(from), why))
      .detail(
          "Moments after that cannot be restored, and incremental backups cannot tell from WAL "
          "what "
          "changed, until a new backup begins anew.")
      .hint("Take a full backup with BACKUP INTO; it starts a new WAL archive where it needs one.");
}

proto::WalArchiveJobSpec archive_specification(const jobs::JobContext& job) {
  proto::WalArchiveJobSpec spec;
  const ByteView bytes = job.specification();
  if (!spec.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw Error(sqlstate::kInternalError, "the specification of the WAL archive cannot be read");
  }
  return spec;
}

/// One stay with the server: from a connection to the next failure, timeline or stop.
class Stay {
 public:
  Stay(const WalArchiveEnvironment& environment, const proto::WalArchiveJobSpec& spec,
       jobs::JobContext& job)
      : environment_(environment),
        spec_(spec),
        job_(job),
        stop_(job.stop()),
        wal_directory_(environment.data_directory / "pg_wal"),
        store_(collection::with_keys(
            environment.stores->open_store(
                spec.collection_uri(),
                collection::locking(spec.object_lock(), spec.retain_for_seconds())),
            collection::parse_keys(spec.keys()))),
        holds_(*environment.database, spec.slot()),
        connection_(postgres::Connection::open({.conninfo = environment.conninfo()}, stop_)) {}

  /// Returns when the server went on to another timeline.
  void work() {
    auto position = ask();
    while (!position) {
      report_waiting("PostgreSQL: the standby receives no WAL");
      stop_.sleep(kPoll);
      position = ask();
    }
    begin(*position);
    job_.pause_point("archive.after_connect");
    while (position) {
      if (position->timeline != path().last()) return;
      archive(*position);
      stop_.sleep(kPoll);
      position = ask();
    }
  }

 private:
  std::optional<postgres::WalPosition> ask() {
    asked_ = environment_.clock->now();
    auto position = postgres::wal_position(connection_, spec_.slot(), stop_);
    if (position && position->system_identifier != spec_.system_identifier()) {
      throw archive_broken(
          fmt::format("the server is another one, with system identifier {} instead of {}",
                      position->system_identifier, spec_.system_identifier()),
          begun().position);
    }
    return position;
  }

  struct Begun {
    TimelineId timeline = 0;
    Lsn position;
  };
  /// Where the archive stands, from the checkpoint or, at first, the specification.
  Begun begun() const {
    proto::WalArchiveCheckpoint row;
    if (const auto bytes = job_.checkpoint()) {
      row.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
      return {row.timeline(), Lsn{row.position()}};
    }
    return {spec_.timeline(), Lsn{spec_.start()}};
  }

  const postgres::TimelinePath& path() const { return *path_; }

  /// Reads a history file out of pg_wal and archives it.
  std::vector<postgres::TimelineSwitch> history_of(TimelineId timeline) {
    if (timeline <= 1) return {};
    const std::string name = postgres::timeline_history_name(timeline);
    const auto text =
        io::read_whole(io::FileSystem::real(), wal_directory_ / name, kLongestHistoryFile);
    if (!text) {
      // A promoted server writes it before the first WAL of the timeline.
      throw Error(sqlstate::kUndefinedFile, fmt::format("\"{}\" is not in pg_wal", name));
    }
    collection::put_timeline_history(*store_, spec_.system_identifier(), timeline, *text, stop_);
    return postgres::parse_timeline_history(as_text(*text), name);
  }

  void begin(const postgres::WalPosition& position) {
    path_.emplace(position.timeline, history_of(position.timeline));
    const Begun from = begun();
    Lsn start = from.position;
    if (!path().contains(from.timeline, from.position)) {
      // What the server left behind (a timeline that it does not follow, or the part of one after
      // the switch) stays in the archive; it goes on where its present history begins.
      const Lsn left = path().end_of(from.timeline);
      start = left.valid() ? left : path().begin_of_last();
    }
    archiver_.emplace(WalArchiverOptions{.store = store_.get(),
                                         .system_identifier = spec_.system_identifier(),
                                         .major = connection_.server_major(),
                                         .wal_segment_bytes = position.wal_segment_bytes,
                                         .path = path(),
                                         .wal_directory = wal_directory_},
                      segment_of(start, position.wal_segment_bytes));
    if (!position.slot || !position.slot->restart.valid() || position.slot->wal_status == "lost") {
      replace_slot(position);
    }
    // Right behind a switch of segments nothing of the next one is written yet.
    const bool begun = position.flushed > archiver_->durable();
    if (begun && !archiver_->has_first_segment()) {
      throw archive_broken("PostgreSQL has removed WAL that was not archived yet", start);
    }
    warn_of_limit(position);
  }

  /// The server lost it, as max_slot_wal_keep_size and a restore do. That alone loses no WAL.
  void replace_slot(const postgres::WalPosition& position) {
    log::warning("replication slot \"{}\" {}, making it anew", spec_.slot(),
                 position.slot ? "keeps no WAL any more" : "is gone");
    postgres::drop_physical_slot(connection_, spec_.slot(), stop_);
    postgres::create_physical_slot(connection_, spec_.slot(), stop_);
  }

  void warn_of_limit(const postgres::WalPosition& position) {
    if (!position.slot_limit) return;
    if (environment_.keep_limit != 0 && *position.slot_limit >= environment_.keep_limit) return;
    job_.notice(
        fmt::format("PostgreSQL keeps at most {} of WAL for the archive (max_slot_wal_keep_size); "
                    "if storage is "
                    "away for longer, the archive breaks",
                    jobs::format_bytes(*position.slot_limit)));
  }

  void archive(const postgres::WalPosition& position) {
    const WalArchiveMode mode = archive_mode(
        *environment_.database, spec_.slot(),
        spec_.mode() == proto::WAL_ARCHIVE_MODE_FULL ? WalArchiveMode::Full : WalArchiveMode::Maps);
    if (!position.slot || position.slot->wal_status == "lost") {
      // Another look at what is still there, with a new slot.
      throw Error(sqlstate::kConnectionFailure,
                  fmt::format("replication slot \"{}\" was lost", spec_.slot()))
          .retry(Retry::Safe);
    }
    // Also while the storage is away: what is kept has one bound, whoever it is kept for.
    if (drop_lapsed_holds(position)) advance();
    try {
      put(mode, position);
      drop_holds_of_deleted_chains();
    } catch (const Error&) {
      check_limit(position);
      throw;
    }
    report(mode, position.flushed);
  }

  void put(WalArchiveMode mode, const postgres::WalPosition& position) {
    while (archiver_->archive_some(mode, position.flushed, stop_)) {
      job_.pause_point("archive.after_put");
      save();
      job_.pause_point("archive.after_checkpoint");
      advance();
      job_.pause_point("archive.after_advance");
      report(mode, position.flushed);
    }
    check_reading(position.flushed, position.wal_segment_bytes);
    const auto now = std::chrono::steady_clock::now();
    if (mode == WalArchiveMode::Full && now - last_tail_ >= environment_.flush_interval - kPoll &&
        archiver_->put_tail(position.flushed, stop_)) {
      last_tail_ = now;
      job_.pause_point("archive.after_tail");
    }
    if (mode == WalArchiveMode::Full) mark_time(position);
    if (now - last_touch_ >= kTouchSlot) advance();
  }

  /// Lets the archive say that it has all that was committed up to now, so that moments of an idle
  /// server can be restored. (A standby does not know what its primary committed.)
  void mark_time(const postgres::WalPosition& position) {
    if (!position.inserted) return;
    const Time now = environment_.clock->now();
    if (!next_mark_ && now - last_mark_time_ >= environment_.mark_interval) {
      // A commit takes its time a moment before its place.
      next_mark_ = {.time = asked_ - kCommitDelay, .lsn = behind_last_record(position)};
    }
    if (!next_mark_ || archiver_->archived() < next_mark_->lsn) return;
    collection::put_wal_time_mark(*store_, spec_.system_identifier(), archiver_->timeline(),
                                  *next_mark_, last_mark_, stop_);
    last_mark_time_ = now;
    last_mark_ = std::exchange(next_mark_, std::nullopt);
  }

  /// The place for the next record lies behind a page's header, up to which nothing is written.
  static Lsn behind_last_record(const postgres::WalPosition& position) {
    const Lsn page{position.inserted->value / postgres::kWalPageBytes * postgres::kWalPageBytes};
    const bool behind_header = position.inserted->value - page.value <= kLongestPageHeader;
    return behind_header && position.flushed == page ? page : *position.inserted;
  }

  void save() {
    proto::WalArchiveCheckpoint row;
    const Lsn durable = archiver_->durable();
    row.set_timeline(timeline_at(durable));
    row.set_position(durable.value);
    row.set_time_us(environment_.clock->now().time_since_epoch().count());
    const std::string bytes = row.SerializeAsString();
    job_.save_checkpoint(as_bytes(bytes));
  }

  /// The timeline that `lsn`, on the path, belongs to.
  TimelineId timeline_at(Lsn lsn) const { return path().of_position(lsn); }

  void advance() {
    last_touch_ = std::chrono::steady_clock::now();
    postgres::advance_physical_slot(connection_, spec_.slot(), kept_from(), stop_);
  }

  /// From here on the server keeps WAL: for the archive, and for backups that have asked for more.
  Lsn kept_from() const {
    Lsn from = archiver_->durable();
    for (const WalHold& hold : holds_.list()) {
      if (path().contains(hold.timeline, hold.from)) from = std::min(from, hold.from);
    }
    return from;
  }

  /// Those that would make the server keep more than it may; and of another history, which the
  /// server has left.
  bool drop_lapsed_holds(const postgres::WalPosition& position) {
    std::uint64_t limit = environment_.keep_limit;
    // Of what the slot may keep, half stays for the archive itself: while the daemon is away
    // nobody can let a hold go, and with the slot all would be lost that the archive lacks.
    if (position.slot_limit) {
      const auto half = std::max<std::uint64_t>(*position.slot_limit / 2, 1);
      if (limit == 0 || half < limit) limit = half;
    }
    bool any = false;
    for (const WalHold& hold : holds_.list()) {
      const std::uint64_t kept =
          position.flushed.value - std::min(position.flushed, hold.from).value;
      if (!path().contains(hold.timeline, hold.from)) {
        log::info("the server has left the history that \"{}\" is of: no WAL is kept for it",
                  hold.full);
      } else if (limit != 0 && kept > limit) {
        log::warning(
            "PostgreSQL would have to keep {} of WAL for the next backup onto \"{}\", more than it "
            "may ({}): the moments since its newest layer cannot be restored",
            jobs::format_bytes(kept), hold.full, jobs::format_bytes(limit));
      } else {
        continue;
      }
      holds_.release(hold);
      any = true;
    }
    return any;
  }

  void drop_holds_of_deleted_chains() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_look_ < kTouchSlot) return;
    last_look_ = now;
    try {
      for (const WalHold& hold : holds_.list()) {
        if (hold.owner.starts_with(kHoldOfJob) ||
            store_->stat(collection::manifest_key(hold.full), stop_)) {
          continue;
        }
        log::info("backup \"{}\" is gone: no WAL is kept for it", hold.full);
        holds_.release(hold);
      }
    } catch (const Error& error) {
      // The archive's keys may be good for the WAL only; a limit has every hold in the end.
      log::debug("whether chains with history are still there is not known: {}", error.message());
    }
  }

  void check_limit(const postgres::WalPosition& position) {
    const std::uint64_t kept =
        position.flushed.value - std::min(position.flushed, archiver_->durable()).value;
    if (environment_.keep_limit != 0 && kept > environment_.keep_limit) {
      throw archive_broken(
          fmt::format(
              "PostgreSQL would have to keep {} of WAL for it, more than --wal-keep-limit ({})",
              jobs::format_bytes(kept), jobs::format_bytes(environment_.keep_limit)),
          archiver_->archived());
    }
  }

  /// Records must be readable up to what is flushed, but for one that is being written.
  void check_reading(Lsn flushed, std::uint64_t segment_bytes) {
    const auto now = std::chrono::steady_clock::now();
    const Lsn read = archiver_->read();
    if (read != last_read_ || flushed.value < read.value + 2 * segment_bytes) {
      last_read_ = read;
      last_progress_ = now;
      return;
    }
    if (now - last_progress_ < kStallPatience) return;
    throw Error(
        sqlstate::kDataCorrupted,
        fmt::format("WAL at {} cannot be read: {}", to_string(read), archiver_->read_end_reason()))
        .hint("Take a full backup with BACKUP INTO, and check the server's disk.");
  }

  void report(WalArchiveMode mode, Lsn flushed) {
    const Lsn archived =
        mode == WalArchiveMode::Full ? archiver_->archived() : std::min(archiver_->read(), flushed);
    const std::uint64_t lag = flushed.value - std::min(flushed, archived).value;
    const Time now = environment_.clock->now();
    if (lag == 0 || !caught_up_) caught_up_ = now;
    const double seconds = lag == 0 ? 0 : std::chrono::duration<double>(now - *caught_up_).count();
    environment_.board->set(
        job_.id(), {.mode = mode,
                    .timeline = path().last(),
                    .archived = archived,
                    .archived_time = caught_up_,
                    .lag_bytes = lag,
                    .protected_bytes = flushed.value - std::min(flushed, kept_from()).value,
                    .waiting_for = {}});
    job_.report({.phase = fmt::format("archived up to {}, {} and {:.1f} s behind",
                                      to_string(archived), jobs::format_bytes(lag), seconds)});
  }

  void report_waiting(const std::string& what) {
    job_.report({.phase = fmt::format("waiting for {}", what)});
  }

  const WalArchiveEnvironment& environment_;
  const proto::WalArchiveJobSpec& spec_;
  jobs::JobContext& job_;
  const Stop& stop_;
  std::filesystem::path wal_directory_;
  std::unique_ptr<storage::ObjectStore> store_;
  WalHolds holds_;
  postgres::Connection connection_;
  std::optional<postgres::TimelinePath> path_;
  std::optional<WalArchiver> archiver_;
  Time asked_;
  std::optional<collection::WalTimeMark> next_mark_;  // waits for its WAL to be archived
  std::optional<collection::WalTimeMark> last_mark_;
  Time last_mark_time_;
  std::optional<Time> caught_up_;
  std::chrono::steady_clock::time_point last_tail_{};
  std::chrono::steady_clock::time_point last_touch_{};
  std::chrono::steady_clock::time_point last_look_{};  // whether the chains of holds are there
  std::chrono::steady_clock::time_point last_progress_ = std::chrono::steady_clock::now();
  Lsn last_read_;
};

std::string setting_of(const std::string& slot) { return "wal_archive_mode." + slot; }

}  // namespace

WalArchiveMode archive_mode(state::Database& database, const std::string& slot,
                            WalArchiveMode first) {
  return database.setting(setting_of(slot)) == "full" ? WalArchiveMode::Full : first;
}

void raise_archive_mode(state::Database& database, const std::string& slot) {
  database.set_setting(setting_of(slot), "full");
}

WalArchiveJob::WalArchiveJob(WalArchiveEnvironment environment)
    : environment_(std::move(environment)) {}

void WalArchiveJob::resume(jobs::JobContext& job) {
  const proto::WalArchiveJobSpec spec = archive_specification(job);
  std::chrono::milliseconds backoff = kFirstBackoff;
  for (;;) {
    const auto began = std::chrono::steady_clock::now();
    try {
      Stay(environment_, spec, job).work();
      continue;
    } catch (const Error& error) {
      job.stop().check();
      if (is_final(error)) {
        environment_.board->remove(job.id());
        throw;
      }
      log::warning("the WAL archive waits: {}", error.message());
      job.report({.phase = fmt::format("waiting, trying again: {}", error.message())});
      auto state = environment_.board->find(job.id()).value_or(WalArchiveState{});
      state.waiting_for = error.message();
      environment_.board->set(job.id(), state);
    }
    if (std::chrono::steady_clock::now() - began > kLongestBackoff) backoff = kFirstBackoff;
    job.stop().sleep(backoff);
    backoff = std::min(backoff * 2, kLongestBackoff);
  }
}

void WalArchiveJob::revert(jobs::JobContext& job) {
  const proto::WalArchiveJobSpec spec = archive_specification(job);
  environment_.board->remove(job.id());
  try {
    auto connection = postgres::Connection::open({.conninfo = environment_.conninfo()}, job.stop());
    postgres::drop_physical_slot(connection, spec.slot(), job.stop());
  } catch (Error& error) {
    error.at(fmt::format("could not drop replication slot \"{}\"", spec.slot()));
    error.hint("Drop it with pg_drop_replication_slot(), or it keeps WAL for good.");
    error.retry(Retry::Safe);
    throw;
  }
}

}  // namespace holdfast::backup
