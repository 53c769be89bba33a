#include "backup/wal_archives.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/frame.h"
#include "collection/object_lock.h"
#include "jobs/status.h"
#include "postgres/connection.h"
#include "postgres/wal_position.h"
#include "postgres/wal_receiver.h"
#include "wal_archive_job.pb.h"

namespace holdfast::backup {

namespace {

constexpr std::chrono::seconds kLongestDrop{60};
constexpr std::chrono::milliseconds kModePoll{50};

/// Parts of the names of parameters that hold secrets, or change when credentials do.
constexpr std::array<std::string_view, 6> kSecretNames = {"secret", "token",      "key",
                                                          "pass",   "credential", "auth"};

bool is_secret(std::string_view parameter) {
  std::string name(parameter.substr(0, parameter.find('=')));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::any_of(kSecretNames.begin(), kSecretNames.end(),
                     [&](std::string_view word) { return name.find(word) != std::string::npos; });
}

/// The URI without user, secrets and the order of its parameters.
std::string identity_of(std::string_view uri) {
  const auto question = uri.find('?');
  std::string base(uri.substr(0, question));
  while (base.ends_with('/')) base.pop_back();
  if (question == std::string_view::npos) return base;
  std::set<std::string> kept;
  std::string_view rest = uri.substr(question + 1);
  while (!rest.empty()) {
    const auto end = std::min(rest.find('&'), rest.size());
    if (!is_secret(rest.substr(0, end))) kept.emplace(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  for (const std::string& parameter : kept) base += "&" + parameter;
  return base;
}

proto::WalArchiveJobSpec parse_archive_spec(const Bytes& bytes) {
  proto::WalArchiveJobSpec spec;
  spec.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  return spec;
}

}  // namespace

std::string archive_slot_name(std::string_view collection_uri) {
  const std::string identity = identity_of(collection_uri);
  const auto hash = collection::to_bytes(collection::hash128(as_bytes(identity)));
  return "holdfast_" + to_hex(ByteView(hash).first(8));
}

WalArchives::WalArchives(jobs::Registry& registry, jobs::Runner& runner,
                         WalArchiveEnvironment environment)
    : registry_(registry), runner_(runner), environment_(std::move(environment)) {}

std::optional<jobs::Job> WalArchives::find(std::string_view collection_uri) const {
  const std::string slot = archive_slot_name(collection_uri);
  for (const jobs::Job& job : registry_.list({.type = std::string(jobs::kWalArchiveType)})) {
    if (jobs::is_terminal(job.status) || job.status == jobs::JobStatus::Reverting) continue;
    if (parse_archive_spec(registry_.specification(job.id)).slot() == slot) return job;
  }
  return std::nullopt;
}

void WalArchives::require_same_key(
    std::string_view collection_uri,
    const std::optional<collection::CollectionKeys::Wal>& key) const {
  const auto job = find(collection_uri);
  if (!job) return;
  const auto there =
      collection::parse_keys(parse_archive_spec(registry_.specification(job->id)).keys()).wal;
  if (there.has_value() == key.has_value() && (!key || key->key.equals(there->key))) return;
  std::string_view how = "with another data key";
  if (!key || !there) how = key ? "but not encrypted" : "and encrypted";
  throw Error(sqlstate::kObjectNotInPrerequisiteState,
              "cannot mix encrypted and plain WAL of one server in a collection")
      .detail(fmt::format("WAL is archived there by job {}, {}.", job->id, how))
      .hint(
          "Use another collection, or encrypt alike; if the collection was emptied, first end its "
          "archive with DROP WAL ARCHIVE.");
}

bool WalArchives::retains(std::string_view collection_uri, std::string_view object_lock,
                          std::uint64_t retain_for_seconds) const {
  const auto job = find(collection_uri);
  if (!job) return false;
  const auto spec = parse_archive_spec(registry_.specification(job->id));
  return spec.object_lock() == object_lock && spec.retain_for_seconds() >= retain_for_seconds;
}

jobs::JobId WalArchives::ensure(const Wanted& wanted, const Stop& stop) {
  MutexLock lock(changes_);
  const std::string slot = archive_slot_name(wanted.collection_uri);
  if (const auto job = find(wanted.collection_uri)) {
    require_same_key(wanted.collection_uri, wanted.key);
    if (wanted.mode == WalArchiveMode::Full) raise_archive_mode(*environment_.database, slot);
    return job->id;
  }
  auto connection = postgres::Connection::open({.conninfo = environment_.conninfo()}, stop);
  auto position = postgres::wal_position(connection, slot, stop);
  if (!position) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                "the standby receives no WAL, so it cannot be archived");
  }
  // One that an ended job, or an earlier store, left behind.
  if (position->slot) postgres::drop_physical_slot(connection, slot, stop);
  postgres::create_physical_slot(connection, slot, stop);
  const auto reserved = postgres::wal_position(connection, slot, stop);
  const postgres::Lsn from = wanted.start.valid() ? wanted.start : position->flushed;
  if (!reserved || !reserved->slot ||
      segment_of(from, position->wal_segment_bytes) <
          segment_of(reserved->slot->restart, position->wal_segment_bytes)) {
    postgres::drop_physical_slot(connection, slot, stop);
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("PostgreSQL does not keep the WAL from {} on", to_string(from)))
        .hint("Take a full backup with BACKUP INTO.");
  }
  environment_.database->set_setting("wal_archive_mode." + slot, "");
  WalHolds(*environment_.database, slot).clear();
  proto::WalArchiveJobSpec spec;
  spec.set_collection_uri(wanted.collection_uri);
  spec.set_mode(wanted.mode == WalArchiveMode::Full ? proto::WAL_ARCHIVE_MODE_FULL
                                                    : proto::WAL_ARCHIVE_MODE_MAPS);
  spec.set_slot(slot);
  spec.set_system_identifier(position->system_identifier);
  spec.set_timeline(position->timeline);
  spec.set_start(from.value);
  spec.set_keys(collection::serialize_keys({.chain = std::nullopt, .wal = wanted.key}));
  spec.set_object_lock(wanted.object_lock);
  spec.set_retain_for_seconds(wanted.retain_for_seconds);
  const std::string bytes = spec.SerializeAsString();
  const ByteView view = as_bytes(bytes);
  return runner_.submit({.type = std::string(jobs::kWalArchiveType),
                         .description = wanted.description,
                         .statement = wanted.statement,
                         .user_name = wanted.user_name,
                         .specification = Bytes(view.begin(), view.end())});
}

Error WalArchives::does_not_work(jobs::JobId job) const {
  const auto state = environment_.board->find(job);
  Error error(sqlstate::kObjectNotInPrerequisiteState,
              fmt::format("the WAL archive does not work (job {}, {})", job,
                          jobs::name_of(registry_.get(job).status)));
  if (state && !state->waiting_for.empty()) error.detail(state->waiting_for);
  return error.hint("SHOW WAL ARCHIVES and SHOW JOB tell why.");
}

WalHolds WalArchives::holds(std::string_view collection_uri) const {
  return WalHolds(*environment_.database, archive_slot_name(collection_uri));
}

void WalArchives::hold(std::string_view collection_uri, const WalHold& hold) {
  holds(collection_uri).put(hold);
}

void WalArchives::release_hold(std::string_view collection_uri, std::string_view owner) {
  holds(collection_uri).release(owner);
}

void WalArchives::hold_for_chain(std::string_view collection_uri, const WalHold& hold) {
  MutexLock lock(changes_);
  WalHolds holds = this->holds(collection_uri);
  for (const WalHold& held : holds.list()) {
    if (held.owner.starts_with(kHoldOfJob)) continue;
    // A newer full of the same has taken this chain's place: names sort by time.
    if (held.owner == hold.owner && held.full > hold.full) return;
    if (held.full != hold.full) continue;
    if (held.timeline == hold.timeline && held.from > hold.from) return;
    if (held.owner != hold.owner) holds.release(held.owner);
  }
  holds.put(hold);
}

void WalArchives::release_chain(std::string_view collection_uri, std::string_view full) {
  WalHolds holds = this->holds(collection_uri);
  for (const WalHold& held : holds.list()) {
    if (held.full == full && !held.owner.starts_with(kHoldOfJob)) holds.release(held.owner);
  }
}

void WalArchives::wait_until_full(jobs::JobId job, std::chrono::seconds patience,
                                  const Stop& stop) const {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto state = environment_.board->find(job);
    if (state && state->mode == WalArchiveMode::Full) return;
    if (jobs::is_terminal(registry_.get(job).status) ||
        std::chrono::steady_clock::now() >= deadline) {
      throw does_not_work(job);
    }
    stop.sleep(kModePoll);
  }
}

void WalArchives::wait_until_archived(jobs::JobId job, postgres::TimelineId timeline,
                                      postgres::Lsn lsn, std::chrono::seconds patience,
                                      const Stop& stop) const {
  postgres::Lsn reached;
  auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto state = environment_.board->find(job);
    const bool follows =
        state && state->mode == WalArchiveMode::Full && state->timeline == timeline;
    if (follows && state->archived >= lsn) return;
    if (follows && state->archived > reached) {
      reached = state->archived;
      deadline = std::chrono::steady_clock::now() + patience;
    }
    if (jobs::is_terminal(registry_.get(job).status) ||
        std::chrono::steady_clock::now() >= deadline) {
      throw does_not_work(job);
    }
    stop.sleep(kModePoll);
  }
}

bool WalArchives::catch_up(std::string_view collection_uri, std::chrono::seconds patience,
                           const Stop& stop) const {
  const auto job = find(collection_uri);
  if (!job) return false;
  const auto keeps = [&](postgres::Lsn up_to) {
    const auto state = environment_.board->find(job->id);
    return state && state->mode == WalArchiveMode::Full && state->archived >= up_to;
  };
  if (!keeps({})) return false;
  auto connection = postgres::Connection::open({.conninfo = environment_.conninfo()}, stop);
  if (connection.query("SELECT pg_catalog.pg_is_in_recovery()", stop).boolean(0, 0)) return false;
  // Durable here is enough: no standby is waited for.
  connection.query("SELECT pg_catalog.set_config('synchronous_commit', 'local', false)", stop);
  connection.query("SELECT pg_catalog.pg_logical_emit_message(true, 'holdfast', '')", stop);
  const auto position = postgres::wal_position(connection, "", stop);
  if (!position) return false;
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!keeps(position->flushed)) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    stop.sleep(kModePoll);
  }
  return true;
}

bool WalArchives::drop(std::string_view collection_uri, const Stop& stop) {
  MutexLock lock(changes_);
  const auto job = find(collection_uri);
  if (!job) return false;
  runner_.cancel(job->id);
  if (!runner_.wait_all({job->id}, std::chrono::steady_clock::now() + kLongestDrop, stop) ||
      registry_.get(job->id).status == jobs::JobStatus::RevertFailed) {
    throw Error(sqlstate::kObjectNotInPrerequisiteState,
                fmt::format("the WAL archive ends, but its replication slot \"{}\" is still there",
                            archive_slot_name(collection_uri)))
        .hint("Look at SHOW JOBS; drop it with pg_drop_replication_slot() if the job cannot.");
  }
  holds(collection_uri).clear();
  return true;
}

std::vector<WalArchives::Listed> WalArchives::list() const {
  std::vector<Listed> listed;
  std::set<std::string> seen;
  // Unfinished ones come first, then the newest.
  for (const jobs::Job& job : registry_.list({.type = std::string(jobs::kWalArchiveType)})) {
    const auto spec = parse_archive_spec(registry_.specification(job.id));
    // What was dropped on purpose is no archive any more.
    if (!seen.insert(spec.slot()).second || job.status == jobs::JobStatus::Canceled) continue;
    proto::WalArchiveCheckpoint checkpoint;
    std::optional<Time> since;
    if (const auto bytes = registry_.checkpoint(job.id)) {
      checkpoint.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()));
      since = time_from_us(checkpoint.time_us());
    }
    for (const WalHold& hold : WalHolds(*environment_.database, spec.slot()).list()) {
      since = std::min(since.value_or(job.created), hold.since);
    }
    const auto first =
        spec.mode() == proto::WAL_ARCHIVE_MODE_FULL ? WalArchiveMode::Full : WalArchiveMode::Maps;
    listed.push_back(
        {.job = job,
         .collection_uri = spec.collection_uri(),
         .slot = spec.slot(),
         .system_identifier = spec.system_identifier(),
         .key = collection::parse_keys(spec.keys()).wal,
         .lock = collection::object_lock(spec.object_lock(), spec.retain_for_seconds()),
         .mode = archive_mode(*environment_.database, spec.slot(), first),
         .state = environment_.board->find(job.id),
         .protected_since = since ? since : job.created});
  }
  return listed;
}

}  // namespace holdfast::backup
