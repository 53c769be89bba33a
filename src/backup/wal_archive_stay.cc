#include "backup/wal_archive_stay.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "backup/wal_archive_end.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/encryption.h"
#include "collection/object_lock.h"
#include "collection/wal_archive.h"
#include "io/file.h"
#include "io/file_system.h"
#include "jobs/progress.h"
#include "postgres/wal_receiver.h"

namespace holdfast::backup {

namespace {

using postgres::Lsn;
using postgres::TimelineId;

constexpr std::chrono::milliseconds kPoll{200};
/// A record that is still being written this long, with whole segments behind it, is damage.
constexpr std::chrono::seconds kStallPatience{60};
/// The slot is touched this often, so that idle_replication_slot_timeout (18) does not take it for
/// abandoned: that of an idle server, and of an archive that waits for its storage.
constexpr std::chrono::seconds kTouchSlot{60};

constexpr std::uint64_t kLongestTimelineHistory = 1ULL << 20;

/// WAL that came together while no daemon was there may be more than the limit. It is on the
/// server's disk already, and can be archived; what comes on top of it is bounded by this part of
/// the limit.
constexpr std::uint64_t kPartOfLimitOnTop = 8;

}  // namespace

WalArchiveStay::WalArchiveStay(const WalArchiveEnvironment& environment,
                               const proto::WalArchiveJobSpec& spec, WalArchiveMemory& memory,
                               jobs::JobContext& job)
    : environment_(environment),
      spec_(spec),
      memory_(memory),
      job_(job),
      stop_(job.stop()),
      wal_directory_(environment.data_directory / "pg_wal"),
      holds_(WalHolds(*environment.database, spec.slot())),
      connection_(postgres::Connection::open({.conninfo = environment.conninfo()}, stop_)),
      marker_(spec.system_identifier(), environment.mark_interval) {}

void WalArchiveStay::work() {
  try {
    follow();
  } catch (const ArchiveEnded&) {
    throw;
  } catch (const Error& error) {
    // Without a position PostgreSQL is what failed.
    if (position_ && !ends_archive(error)) bear_with(error);
    throw;
  }
}

void WalArchiveStay::follow() {
  ask();
  while (!position_) {
    report_waiting("PostgreSQL: the standby receives no WAL");
    stop_.sleep(kPoll);
    ask();
  }
  begin();
  job_.pause_point("archive.after_connect");
  while (position_ && position_->timeline == path().last()) {
    if (!archive()) stop_.sleep(kPoll);
    ask();
  }
}

void WalArchiveStay::ask() {
  position_.reset();
  asked_ = environment_.clock->now();
  auto position = postgres::wal_position(connection_, spec_.slot(), stop_);
  if (position && position->system_identifier != spec_.system_identifier()) {
    throw archive_broken(
        fmt::format("the server is another one, with system identifier {} instead of {}",
                    position->system_identifier, spec_.system_identifier()),
        begun().position);
  }
  position_ = std::move(position);
}

/// Where the archive stands, from the checkpoint or, at first, the specification.
WalArchiveStay::Place WalArchiveStay::begun() {
  const auto bytes = job_.checkpoint();
  if (!bytes) return {spec_.timeline(), Lsn{spec_.start()}};
  proto::WalArchiveCheckpoint row;
  row.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
  if (!memory_.caught_up) memory_.caught_up = time_from_us(row.time_us());
  if (row.marked()) memory_.marked = saved_mark_ = true;
  return {row.timeline(), Lsn{row.position()}};
}

void WalArchiveStay::begin() {
  const Place from = begun();
  start_ = std::min(from.position, position_->flushed);
  follow_timeline();
  start_ = from.position;
  if (!path().contains(from.timeline, from.position)) {
    // What the server left behind (a timeline that it does not follow, or the part of one after
    // the switch) stays in the archive; it goes on where its present history begins.
    const Lsn left = path().end_of(from.timeline);
    start_ = left.valid() ? left : path().begin_of_last();
  }
  require_not_behind(start_);
  // Not earlier: what the storage refuses is within the limit from here on.
  store_ = collection::with_keys(
      environment_.stores->open_store(
          spec_.collection_uri(),
          collection::locking(spec_.object_lock(), spec_.retain_for_seconds())),
      collection::parse_keys(spec_.keys()));
  require_archive_there();
  put_history();
  archiver_.emplace(WalArchiverOptions{.store = store_.get(),
                                       .system_identifier = spec_.system_identifier(),
                                       .major = connection_.server_major(),
                                       .wal_segment_bytes = position_->wal_segment_bytes,
                                       .path = path(),
                                       .wal_directory = wal_directory_},
                    segment_of(start_, position_->wal_segment_bytes));
  require_wal_kept();
  warn_of_limit();
}

/// Which timelines lead to the server's, from pg_wal.
void WalArchiveStay::follow_timeline() {
  const TimelineId timeline = position_->timeline;
  if (timeline <= 1) {
    path_.emplace(timeline, std::vector<postgres::TimelineSwitch>());
    return;
  }
  const std::string name = postgres::timeline_history_name(timeline);
  const auto text =
      io::read_whole(io::FileSystem::real(), wal_directory_ / name, kLongestTimelineHistory);
  if (!text) {
    // A promoted server writes it before the first WAL of the timeline.
    throw Error(sqlstate::kUndefinedFile, fmt::format("\"{}\" is not in pg_wal", name));
  }
  path_.emplace(timeline, postgres::parse_timeline_history(as_text(*text), name));
  history_ = *text;
}

/// Crash recovery of a server never ends before what it had flushed, and more than that is not
/// archived. A standby may be behind the one whose WAL was archived before.
void WalArchiveStay::require_not_behind(Lsn archived) const {
  if (!position_->inserted || position_->flushed >= archived) return;
  throw server_was_set_back(
      fmt::format("Its WAL is at {} of timeline {}, the archive has it up to {}.",
                  to_string(position_->flushed), position_->timeline, to_string(archived)),
      archived);
}

/// An archive that went on beneath the mount point of its storage would look whole from there, and
/// have a gap when the storage is back.
void WalArchiveStay::require_archive_there() {
  if (!memory_.marked || collection::is_wal_archive(*store_, spec_.system_identifier(), stop_)) {
    return;
  }
  throw Error(
      sqlstate::kUndefinedFile,
      fmt::format("\"{}\" no longer has the WAL archive of this server", store_->description()))
      .hint(
          "Mount the storage again. If the collection was emptied on purpose, end the archive with "
          "DROP WAL ARCHIVE.");
}

void WalArchiveStay::put_history() {
  if (history_.empty() || memory_.histories.contains(path().last())) return;
  collection::put_timeline_history(*store_, spec_.system_identifier(), path().last(), history_,
                                   stop_);
  memory_.histories.insert(path().last());
}

/// Makes the slot anew where the server lost it, as max_slot_wal_keep_size and a restore do. That
/// alone loses no WAL.
void WalArchiveStay::require_wal_kept() {
  const auto& slot = position_->slot;
  if (!slot || !slot->restart.valid() || slot->wal_status == "lost") {
    log::warning("replication slot \"{}\" {}, making it anew", spec_.slot(),
                 slot ? "keeps no WAL any more" : "is gone");
    postgres::drop_physical_slot(connection_, spec_.slot(), stop_);
    postgres::create_physical_slot(connection_, spec_.slot(), stop_);
  }
  // Right behind a switch of segments nothing of the next one is written yet.
  if (position_->flushed > archiver_->durable() && !archiver_->has_first_segment()) {
    throw archive_broken("PostgreSQL has removed WAL that was not archived yet",
                         archiver_->durable());
  }
}

void WalArchiveStay::warn_of_limit() {
  if (!position_->slot_limit) return;
  if (environment_.keep_limit != 0 && *position_->slot_limit >= environment_.keep_limit) return;
  job_.notice(
      fmt::format("PostgreSQL keeps at most {} of WAL for the archive (max_slot_wal_keep_size); if "
                  "storage is away for longer, the archive breaks",
                  jobs::format_bytes(*position_->slot_limit)));
}

/// Puts what has come: some segments, or the tail. False when no whole segment is left.
bool WalArchiveStay::archive() {
  if (!position_->slot || position_->slot->wal_status == "lost") require_wal_kept();
  require_not_behind(archiver_->archived());
  // Before anything is put, which may take long: what is kept has one bound, whoever it is kept
  // for, and the slot is in use.
  if (holds_.drop_lapsed(*position_, path(), environment_.keep_limit) || touch_is_due()) advance();
  const bool more = put(mode());
  holds_.drop_of_deleted_chains(*store_, stop_);
  report(mode(), {});
  check_limit(environment_.over_limit);
  return more;
}

bool WalArchiveStay::put(WalArchiveMode mode) {
  const Lsn flushed = position_->flushed;
  if (archiver_->archive_some(mode, flushed, stop_)) {
    job_.pause_point("archive.after_put");
    save();
    job_.pause_point("archive.after_checkpoint");
    advance();
    job_.pause_point("archive.after_advance");
    return true;
  }
  check_reading(flushed, position_->wal_segment_bytes);
  if (mode != WalArchiveMode::Full) return false;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_tail_ >= environment_.flush_interval - kPoll &&
      archiver_->put_tail(flushed, stop_)) {
    last_tail_ = now;
    job_.pause_point("archive.after_tail");
  }
  if (archiver_->marked() && !saved_mark_) save();
  marker_.mark(*store_, *position_, asked_, archiver_->archived(), archiver_->timeline(),
               environment_.clock->now(), stop_);
  return false;
}

void WalArchiveStay::save() {
  proto::WalArchiveCheckpoint row;
  const Lsn durable = archiver_->durable();
  row.set_timeline(path().of_position(durable));
  row.set_position(durable.value);
  row.set_time_us(environment_.clock->now().time_since_epoch().count());
  if (archiver_->marked()) memory_.marked = saved_mark_ = true;
  row.set_marked(memory_.marked);
  const std::string bytes = row.SerializeAsString();
  job_.save_checkpoint(as_bytes(bytes));
}

bool WalArchiveStay::touch_is_due() const {
  return std::chrono::steady_clock::now() - last_touch_ >= kTouchSlot;
}

void WalArchiveStay::advance() {
  last_touch_ = std::chrono::steady_clock::now();
  postgres::advance_physical_slot(connection_, spec_.slot(), kept_from(), stop_);
}

/// Leaves the slot where it is.
void WalArchiveStay::touch() {
  last_touch_ = std::chrono::steady_clock::now();
  postgres::advance_physical_slot(connection_, spec_.slot(), Lsn{}, stop_);
}

WalArchiveMode WalArchiveStay::mode() const {
  return archive_mode(
      *environment_.database, spec_.slot(),
      spec_.mode() == proto::WAL_ARCHIVE_MODE_FULL ? WalArchiveMode::Full : WalArchiveMode::Maps);
}

/// Everything before is in the collection.
Lsn WalArchiveStay::durable() const { return archiver_ ? archiver_->durable() : start_; }

Lsn WalArchiveStay::kept_from() const {
  return path_ ? holds_.kept_from(durable(), path()) : durable();
}

std::uint64_t WalArchiveStay::kept_for_archive() const {
  return position_->flushed.value - std::min(position_->flushed, durable()).value;
}

/// Archiving failed, and another stay is to try again. The server has no part in it: what it keeps
/// for the archive has its bound all the same, and everybody can see how much it is.
void WalArchiveStay::bear_with(const Error& failure) {
  try {
    if (path_) holds_.drop_lapsed(*position_, path(), environment_.keep_limit);
    if (archiver_) {
      advance();
    } else {
      touch();
    }
  } catch (const Error& error) {
    // The slot's loss is found out by the next stay, as that of the connection is.
    log::debug("could not touch the slot: {}", error.message());
  }
  check_limit({});
  report(mode(), failure.message());
}

void WalArchiveStay::check_limit(std::chrono::milliseconds patience) {
  const std::uint64_t limit = environment_.keep_limit;
  const std::uint64_t kept = kept_for_archive();
  if (!memory_.kept_at_first) memory_.kept_at_first = kept;
  std::uint64_t allowed = limit;
  if (*memory_.kept_at_first > limit) {
    allowed = *memory_.kept_at_first + limit / kPartOfLimitOnTop;
  }
  if (limit == 0 || kept <= allowed) {
    memory_.over_limit_since.reset();
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (!memory_.over_limit_since) memory_.over_limit_since = now;
  if (now - *memory_.over_limit_since < patience) return;
  throw archive_broken(
      fmt::format("PostgreSQL would have to keep {} of WAL for it, more than --wal-keep-limit ({})",
                  jobs::format_bytes(kept), jobs::format_bytes(limit)),
      archiver_ ? archiver_->archived() : start_);
}

/// Records must be readable up to what is flushed, but for one that is being written.
void WalArchiveStay::check_reading(Lsn flushed, std::uint64_t segment_bytes) {
  const auto now = std::chrono::steady_clock::now();
  const Lsn read = archiver_->read();
  if (read != last_read_ || flushed.value < read.value + 2 * segment_bytes) {
    last_read_ = read;
    last_progress_ = now;
    return;
  }
  if (now - last_progress_ < kStallPatience) return;
  throw ArchiveEnded(
      Error(sqlstate::kDataCorrupted, fmt::format("WAL at {} cannot be read: {}", to_string(read),
                                                  archiver_->read_end_reason()))
          .hint("Take a full backup with BACKUP INTO, and check the server's "
                "disk."));
}

void WalArchiveStay::report(WalArchiveMode mode, const std::string& waiting_for) {
  const Lsn flushed = position_->flushed;
  Lsn archived = start_;
  if (archiver_) {
    archived =
        mode == WalArchiveMode::Full ? archiver_->archived() : std::min(archiver_->read(), flushed);
  }
  const std::uint64_t lag = flushed.value - std::min(flushed, archived).value;
  const Time now = environment_.clock->now();
  if (lag == 0 || !memory_.caught_up) memory_.caught_up = now;
  const double seconds =
      lag == 0 ? 0 : std::chrono::duration<double>(now - *memory_.caught_up).count();
  environment_.board->set(job_.id(),
                          {.mode = mode,
                           .timeline = position_->timeline,
                           .archived = archived,
                           .archived_time = memory_.caught_up,
                           .lag_bytes = lag,
                           .protected_bytes = flushed.value - std::min(flushed, kept_from()).value,
                           .waiting_for = waiting_for});
  if (!waiting_for.empty()) return;
  job_.report({.phase = fmt::format("archived up to {}, {} and {:.1f} s behind",
                                    to_string(archived), jobs::format_bytes(lag), seconds)});
}

void WalArchiveStay::report_waiting(const std::string& what) {
  job_.report({.phase = fmt::format("waiting for {}", what)});
}

}  // namespace holdfast::backup
