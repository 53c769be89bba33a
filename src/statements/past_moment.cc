#include "statements/past_moment.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/encryption.h"
#include "collection/moment.h"
#include "collection/scope.h"
#include "statements/as_of.h"
#include "statements/milestone_statements.h"

namespace holdfast::statements {

namespace {

using collection::Moment;
using collection::MomentFinder;
using collection::proto::Manifest;

const sql::Targets kCluster{};
/// An archive says at least this often what an idle server did not do.
constexpr std::chrono::minutes kJustOver{5};
constexpr std::chrono::seconds kArchivePatience{30};

/// Absent for what is no time: an LSN or a restore point.
std::optional<Time> time_of(const sql::Expression& as_of, Time now) {
  using Kind = sql::Expression::Kind;
  if (as_of.kind == Kind::Lsn || as_of.kind == Kind::RestorePoint ||
      as_of.kind == Kind::Milestone) {
    return std::nullopt;
  }
  return as_of_time(as_of, now);
}

Time end_time(const Manifest& layer) { return time_from_us(layer.end_time_us()); }

/// CockroachDB's words (reference, section 3.4).
Error not_later(const std::string& moment, const std::string& end) {
  return Error(sqlstate::kInvalidParameterValue,
               fmt::format("`AS OF SYSTEM TIME` {} must be greater than the previous backup's end "
                           "time of {}.",
                           moment, end));
}

Moment find(const PastRequest& request, storage::ObjectStore& store,
            const std::vector<Manifest>& layers, const Stop& stop) {
  const MomentFinder finder(store, layers, stop, collection::MomentFor::Backup);
  return find_moment_or_milestone(
      request.as_of,
      {.store = store,
       .system_identifier = layers.front().instance().system_identifier(),
       .finder = finder,
       .targets = kCluster,
       .database = request.database,
       .now = request.now},
      stop);
}

/// A moment that is only just over may not be in the archive yet, or, of an idle server, not be
/// known to be complete. False when that is not why it was not found.
bool catch_up(const PastRequest& request, const std::string& collection_uri, const Error& error,
              const Stop& stop) {
  const auto time = time_of(request.as_of, request.now);
  if (error.state() != sqlstate::kInvalidParameterValue || request.archives == nullptr || !time ||
      request.now - *time > kJustOver ||
      !request.archives->catch_up(collection_uri, kArchivePatience, stop)) {
    return false;
  }
  log::debug("the archive has caught up with the moment of the backup");
  return true;
}

void set_as_of(const PastRequest& request, const Moment& moment, storage::ObjectStore& store,
               const std::vector<Manifest>& layers, backup::proto::BackupJobSpec& spec,
               const Stop& stop) {
  const auto time = time_of(request.as_of, request.now);
  auto& past = *spec.mutable_as_of();
  past.set_layer(moment.layer);
  const Time end = time ? *time : MomentFinder(store, layers, stop).last_commit_before(moment);
  past.set_time_us(end.time_since_epoch().count());
  if (!moment.target) return;
  past.set_timeline(moment.target->timeline);
  past.set_record(moment.target->record.value);
  past.set_end(moment.target->end.value);
}

/// Looks for the moment in one chain after the other.
class FullSearch {
 public:
  FullSearch(const PastRequest& request, const PastChains& chains,
             backup::proto::BackupJobSpec& spec, const Stop& stop)
      : request_(request), chains_(chains), spec_(spec), stop_(stop) {}

  /// Newest first: the less WAL there is to replay. False when none covers it.
  bool run() {
    refusals_.clear();
    unreadable_.clear();
    const auto fulls = collection::list_fulls(*chains_.open_store(), stop_);
    for (auto full = fulls.rbegin(); full != fulls.rend(); ++full) {
      if (look_into(*full)) return true;
    }
    return false;
  }

  /// After run(): why none does.
  Error refusal() const {
    // That a chain is damaged explains less than where a moment would have to be.
    auto all = refusals_;
    all.insert(all.end(), unreadable_.begin(), unreadable_.end());
    if (all.empty()) {
      if (locked_) return *locked_;
      return no_full_of_the_past();
    }
    Error error = all.front().second;
    if (all.size() == 1) return error;
    std::string detail;
    for (const auto& [full, refused] : all) {
      const std::string& told = refused.detail().empty() ? refused.message() : refused.detail();
      detail += fmt::format("{}\"{}\": {}", detail.empty() ? "" : "\n", full, told);
    }
    return error.detail(detail);
  }

 private:
  /// One chain that cannot be read does not stand in another's way.
  bool look_into(const std::string& full) {
    try {
      return find_in(full);
    } catch (const Error& error) {
      if (error.state() != sqlstate::kDataCorrupted && error.state() != sqlstate::kUndefinedFile &&
          error.state() != sqlstate::kFeatureNotSupported) {
        throw;
      }
      log::warning("passing over backup \"{}\" in the search for a moment: {}", full,
                   error.message());
      unreadable_.emplace_back(full, error);
      return false;
    }
  }

  bool find_in(const std::string& full) {
    std::unique_ptr<storage::ObjectStore> store = chains_.open_store();
    collection::CollectionKeys keys;
    try {
      keys = collection::open_chain(*store, full, chains_.guard, stop_);
    } catch (const Error& error) {
      // Another chain's passphrase need not be this one's.
      if (error.state() != sqlstate::kInvalidParameterValue) throw;
      if (!locked_) locked_ = error;
      return false;
    }
    const std::string kept = collection::serialize_keys(keys);
    store = collection::with_keys(std::move(store), std::move(keys));
    const auto first = collection::read_manifest(*store, full, stop_);
    if (!first || collection::is_scoped(*first) ||
        first->instance().system_identifier() != chains_.system_identifier) {
      return false;
    }
    const auto layers =
        collection::read_manifests(*store, collection::list_layers(*store, full, stop_), stop_);
    try {
      const Moment moment = find(request_, *store, layers, stop_);
      set_as_of(request_, moment, *store, layers, spec_, stop_);
      spec_.set_source_keys(kept);
      return true;
    } catch (const Error& error) {
      if (error.state() != sqlstate::kInvalidParameterValue &&
          error.state() != sqlstate::kUndefinedObject) {
        throw;
      }
      refusals_.emplace_back(full, error);
      return false;
    }
  }

  const PastRequest& request_;
  const PastChains& chains_;
  backup::proto::BackupJobSpec& spec_;
  const Stop& stop_;
  std::vector<std::pair<std::string, Error>> refusals_;
  std::vector<std::pair<std::string, Error>> unreadable_;
  std::optional<Error> locked_;
};

}  // namespace

void require_past(const sql::Expression& as_of, Time now) {
  const auto time = time_of(as_of, now);
  if (!time || *time <= now) return;
  throw Error(sqlstate::kInvalidParameterValue,
              fmt::format("AS OF SYSTEM TIME: cannot specify timestamp in the future ({} > {})",
                          format_timestamptz(*time), format_timestamptz(now)));
}

void set_past_moment(const PastRequest& request, storage::ObjectStore& store,
                     backup::proto::BackupJobSpec& spec, const Stop& stop) {
  const auto layers =
      collection::read_manifests(store, collection::list_layers(store, spec.full(), stop), stop);
  const Manifest& latest = collection::latest_layer(layers);
  const auto time = time_of(request.as_of, request.now);
  if (time && *time <= end_time(latest)) {
    throw not_later(format_timestamptz(*time), format_timestamptz(end_time(latest)));
  }
  const auto look = [&] { return find(request, store, layers, stop); };
  const Moment moment = [&] {
    try {
      return look();
    } catch (const Error& error) {
      if (!catch_up(request, spec.collection_uri(), error, stop)) throw;
    }
    return look();
  }();
  const auto latest_stop = postgres::Lsn{latest.stop().position()};
  const bool behind = moment.target && moment.target->end > latest_stop;
  if (moment.layer != latest.subdirectory() || (!time && !behind)) {
    throw not_later(request.as_of.source, format_timestamptz(end_time(latest)))
        .detail(fmt::format("The chain's latest layer, \"{}\", ends at {} on timeline {}.",
                            latest.subdirectory(), to_string(latest_stop),
                            latest.stop().timeline()));
  }
  set_as_of(request, moment, store, layers, spec, stop);
}

Error no_full_of_the_past() {
  return Error(sqlstate::kUndefinedFile,
               "no full backup exists there whose history could have that moment")
      .hint(
          "Leave AS OF SYSTEM TIME out to back up the present state. BACKUP INTO … WITH "
          "revision_history keeps the WAL from then on.");
}

void set_past_full(const PastRequest& request, const PastChains& chains,
                   backup::proto::BackupJobSpec& spec, const Stop& stop) {
  FullSearch search(request, chains, spec, stop);
  if (search.run()) return;
  if (catch_up(request, spec.collection_uri(), search.refusal(), stop) && search.run()) return;
  throw search.refusal();
}

}  // namespace holdfast::statements
