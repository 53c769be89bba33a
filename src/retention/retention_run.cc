#include "retention/retention_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "backup/wal_trim.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "collection/chain.h"
#include "collection/collection.h"
#include "collection/deletion_marks.h"
#include "collection/encryption.h"
#include "collection/format.h"
#include "collection/incremental_location.h"

namespace holdfast::retention {

namespace {

using collection::SurveyedChain;
using collection::UnfinishedLayer;
using proto::RetentionRow;

std::int64_t microseconds(Time time) { return time.time_since_epoch().count(); }

std::string refused(std::uint64_t objects) {
  return fmt::format("the storage does not let {} object{} go; tried again next time", objects,
                     objects == 1 ? "" : "s");
}

}  // namespace

proto::RetentionJobSpec parse_spec(ByteView bytes) {
  proto::RetentionJobSpec spec;
  if (!spec.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      (!spec.has_older_than_us() && !spec.has_keep_fulls())) {
    throw Error(sqlstate::kInternalError,
                "the specification of the DELETE BACKUPS job cannot be read");
  }
  return spec;
}

proto::RetentionCheckpoint parse_checkpoint(const std::optional<Bytes>& bytes) {
  proto::RetentionCheckpoint checkpoint;
  if (bytes && !checkpoint.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) {
    throw Error(sqlstate::kInternalError,
                "the checkpoint of the DELETE BACKUPS job cannot be read");
  }
  return checkpoint;
}

std::unique_ptr<storage::ObjectStore> open_collection(backup::StoreOpener& stores,
                                                      const proto::RetentionJobSpec& spec) {
  return collection::open_located(spec.collection_uri(), spec.incremental_uri(),
                                  [&](const std::string& uri) { return stores.open_store(uri); });
}

std::unique_ptr<storage::ObjectStore> with_all_keys(std::unique_ptr<storage::ObjectStore> store,
                                                    const proto::RetentionJobSpec& spec) {
  for (const std::string& keys : spec.keys()) {
    store = collection::with_keys(std::move(store), collection::parse_keys(keys));
  }
  return store;
}

Rule rule_of(const proto::RetentionJobSpec& spec) {
  Rule rule;
  if (spec.has_older_than_us()) {
    rule.older_than = time_from_us(spec.older_than_us());
  }
  if (spec.has_keep_fulls()) rule.keep_fulls = spec.keep_fulls();
  return rule;
}

RetentionRow row_of(const SurveyedChain& chain, const char* action, std::string reason) {
  RetentionRow row;
  row.set_subdirectory(chain.full);
  if (!chain.layers.empty()) {
    row.set_start_time_us(microseconds(chain.start()));
    row.set_end_time_us(microseconds(chain.end()));
    row.set_layers(static_cast<std::uint32_t>(chain.layers.size()));
  }
  row.set_bytes(chain.bytes);
  row.set_action(action);
  row.set_reason(std::move(reason));
  return row;
}

RetentionRow row_of(const UnfinishedLayer& layer, const char* action, std::string reason) {
  RetentionRow row;
  row.set_subdirectory(layer.directory);
  row.set_bytes(layer.bytes);
  row.set_action(action);
  row.set_reason(std::move(reason));
  return row;
}

std::optional<std::string> reason_to_leave(const UnfinishedLayer& layer, const Workers& workers) {
  if (layer.of_deleted_chain) return std::nullopt;
  if (const auto job = workers.working(layer.locks, layer.newest_sign)) {
    return fmt::format("backup job {} is not finished", *job);
  }
  // Its statement has put the data key there, and a full of the past has an old name from the
  // beginning.
  if (const auto job = backup_into(workers.registry(), layer.directory)) {
    return fmt::format("backup job {} has yet to work in it", *job);
  }
  if (layer.locks.empty() && workers.is_young(layer.newest_sign)) {
    return "not finished, and too young to be left behind";
  }
  return std::nullopt;
}

std::string reason_to_sweep(const UnfinishedLayer& layer) {
  return layer.of_deleted_chain ? "what was left of a deleted backup"
                                : "left behind by a backup that did not finish";
}

RetentionRun::RetentionRun(const RetentionEnvironment& environment, jobs::JobContext& job)
    : environment_(environment),
      job_(job),
      stop_(job.stop()),
      spec_(parse_spec(job.specification())),
      store_(with_all_keys(open_collection(*environment.stores, spec_), spec_)),
      workers_(*environment.registry, environment.young),
      surveyor_(*store_),
      checkpoint_(parse_checkpoint(job.checkpoint())) {}

void RetentionRun::take_lock() {
  report("taking the lock");
  collection::take_retention_lock(
      *store_, job_.id(), [&](std::int64_t other) { return !workers_.may_work(other, Time()); },
      stop_);
}

void RetentionRun::finish_interrupted() {
  const std::string full = checkpoint_.deleting();
  if (full.empty() || store_->stat(collection::manifest_key(full), stop_)) return;
  log::info("going on with the deletion of \"{}\"", full);
  remove_rest(full);
}

void RetentionRun::decide() {
  report("listing backups");
  chains_ = surveyor_.survey(stop_).chains;
  verdicts_ =
      judge(chains_, rule_of(spec_), chains_in_use(*environment_.registry, workers_, chains_));
  for (std::size_t i = 0; i < chains_.size(); ++i) {
    if (verdicts_[i].goes) {
      bytes_total_ += chains_[i].bytes;
      continue;
    }
    withdraw_old_marks(chains_[i]);
    // An earlier process of this job began with it, and now something needs it.
    if (checkpoint_.deleting() == chains_[i].full) checkpoint_.clear_deleting();
    set_row(row_of(chains_[i], kKept, verdicts_[i].reason));
  }
}

/// Of this job's earlier attempt, and of jobs that did not come to withdraw theirs.
void RetentionRun::withdraw_old_marks(const SurveyedChain& chain) {
  for (const std::int64_t job : chain.marks) {
    if (job != job_.id() && workers_.may_work(job, Time())) continue;
    collection::withdraw_deletion(*store_, chain.full, job, stop_);
  }
}

void RetentionRun::delete_chains() {
  for (std::size_t i = 0; i < chains_.size(); ++i) {
    stop_.check();
    if (verdicts_[i].goes) delete_chain(chains_[i], verdicts_[i].reason);
  }
}

void RetentionRun::delete_chain(const SurveyedChain& chain, const std::string& reason) {
  report("deleting backups");
  gone_.insert(chain.full);
  // After a crash the chain has lost layers, but the row tells of the whole.
  if (checkpoint_.deleting() != chain.full) {
    checkpoint_.set_deleting(chain.full);
    *checkpoint_.mutable_row() = row_of(chain, kDeleted, reason);
    save();
  }
  job_.pause_point("retention.after_checkpoint");
  if (!collection::mark_deletion(*store_, chain.full, job_.id(), stop_)) {
    return give_back(chain.full, kNotYet, refused(1));
  }
  job_.pause_point("retention.after_mark");
  if (auto why = obstacle(chain)) return give_back(chain.full, kKept, std::move(*why));
  move_latest(chain.full);
  job_.pause_point("retention.after_latest");
  for (auto layer = chain.layers.rbegin(); layer != chain.layers.rend(); ++layer) {
    job_.pause_point("retention.manifest");
    const auto manifest = collection::manifest_key(layer->subdirectory());
    if (!storage::remove_if_allowed(*store_, manifest, stop_)) {
      return give_back(chain.full, kNotYet, refused(1));
    }
  }
  job_.pause_point("retention.after_manifests");
  remove_rest(chain.full);
}

/// Looks again, after the mark: what takes a lock in the chain from now on sees the mark.
std::optional<std::string> RetentionRun::obstacle(const SurveyedChain& chain) {
  const auto now = surveyor_.chain(chain.full, stop_);
  if (!now) return "it is gone already";
  const auto directories = [](const SurveyedChain& one) {
    std::vector<std::string> all;
    for (const auto& layer : one.layers) all.push_back(layer.subdirectory());
    return all;
  };
  if (directories(*now) != directories(chain)) return "a layer was added meanwhile";
  const auto used = chains_in_use(*environment_.registry, workers_, {*now});
  const auto found = used.find(chain.full);
  if (found != used.end()) return found->second;
  if (!another_restorable(chain)) return kLastRestorable;
  return std::nullopt;
}

bool RetentionRun::another_restorable(const collection::SurveyedChain& chain) {
  for (std::size_t i = chains_.size(); i-- > 0;) {
    if (chains_[i].full == chain.full || gone_.contains(chains_[i].full)) continue;
    if (!covers(chains_[i], chain)) continue;
    const auto now = surveyor_.chain(chains_[i].full, stop_);
    if (now && now->restorable()) return true;
  }
  return false;
}

/// The full whose chain reaches furthest and can be restored, of the cluster if there is one; those
/// that came after the decision count too.
std::optional<std::string> RetentionRun::newest_other(const std::string& full) {
  std::optional<std::string> newest;
  std::pair<bool, Time> reaches;
  // Of two that end at one moment, the one that comes later.
  for (const std::string& other : collection::list_fulls(*store_, stop_)) {
    if (other == full || gone_.contains(other)) continue;
    const auto chain = surveyor_.chain(other, stop_);
    if (!chain || !chain->restorable()) continue;
    const std::pair<bool, Time> found{of_cluster(*chain), chain->end()};
    if (newest && found < reaches) continue;
    newest = other;
    reaches = found;
  }
  return newest;
}

void RetentionRun::move_latest(const std::string& full) {
  std::string latest;
  try {
    latest = collection::resolve_latest(*store_, stop_);
  } catch (const Error& error) {
    // None, or one that nobody can read: not for us to mend.
    if (error.state() == sqlstate::kUndefinedFile || error.state() == sqlstate::kDataCorrupted) {
      return;
    }
    throw;
  }
  if (latest != full) return;
  // A backup that finishes meanwhile writes LATEST too. Whichever of the two is last, looking again
  // brings LATEST to the newest.
  std::optional<std::string> written;
  for (;;) {
    const auto newest = newest_other(full);
    if (!newest || newest == written) return;
    log::info("LATEST goes from \"{}\" to \"{}\"", full, *newest);
    collection::write_latest(*store_, *newest, environment_.registry->clock().now(), stop_);
    written = newest;
  }
}

/// Everything below the directories of a chain whose full is gone; its mark last.
void RetentionRun::remove_rest(const std::string& full) {
  gone_.insert(full);
  std::vector<storage::ObjectKey> data;
  std::vector<storage::ObjectKey> marks;
  const std::string mark_start = fmt::format("{}/{}/", full, collection::kDeletionDirectory);
  // Without these two the data in another place could not be found again.
  const std::vector<storage::ObjectKey> ties = {collection::full_location_key(full),
                                                collection::incremental_location_key(full)};
  const auto visit = [&](const storage::ObjectInfo& info) {
    if (std::ranges::find(ties, info.key) != ties.end()) return;
    if (collection::is_of_other_collection(full, info.key)) return;
    (info.key.starts_with(mark_start) ? marks : data).push_back(info.key);
  };
  store_->list(collection::incrementals_of(full), visit, stop_);
  store_->list(full, visit, stop_);
  std::uint64_t kept = collection::remove_objects(*store_, data, stop_);
  if (kept == 0) kept = remove_ties(full);
  job_.pause_point("retention.after_data");
  RetentionRow row = checkpoint_.row();
  if (kept > 0) {
    // The mark stays, and tells the next job what this is.
    row.set_action(kNotYet);
    row.set_reason(refused(kept));
  } else {
    collection::remove_objects(*store_, marks, stop_);
    log::info("deleted backup \"{}\", bytes={}", full, row.bytes());
  }
  bytes_done_ += row.bytes();
  end_chain(std::move(row));
  job_.pause_point("retention.after_chain");
}

/// What says that the chain has layers in another place, when nothing is left there; the number of
/// objects that stay. In this order: a crash between the two leaves one that nobody asks for.
std::uint64_t RetentionRun::remove_ties(const std::string& full) {
  std::uint64_t kept = 0;
  const auto remove = [&](const std::string& directory, const storage::ObjectKey& key) {
    bool there = false;
    // Not stat(), which hides one of them; and what is absent is not removed, because that would
    // leave a mark in a bucket with versions.
    store_->list(
        directory, [&](const storage::ObjectInfo& info) { there = there || info.key == key; },
        stop_);
    if (there && !storage::remove_if_allowed(*store_, key, stop_)) ++kept;
  };
  remove(full, collection::incremental_location_key(full));
  remove(collection::incrementals_of(full), collection::full_location_key(full));
  return kept;
}

/// The chain stays, as far as it is there.
void RetentionRun::give_back(const std::string& full, const char* action, std::string reason) {
  collection::withdraw_deletion(*store_, full, job_.id(), stop_);
  gone_.erase(full);
  RetentionRow row = checkpoint_.row();
  row.set_action(action);
  row.set_reason(std::move(reason));
  end_chain(std::move(row));
}

void RetentionRun::sweep() {
  report("looking for what unfinished backups left");
  const auto unfinished = surveyor_.survey(stop_).unfinished;
  // Incremental layers first: the mark of a deleted chain is in its full's directory.
  for (auto layer = unfinished.rbegin(); layer != unfinished.rend(); ++layer) {
    stop_.check();
    const auto incremental = collection::parse_incremental_directory(layer->directory);
    if (gone_.contains(incremental ? incremental->full : layer->directory)) continue;
    auto reason = reason_to_leave(*layer, workers_);
    if (!reason && !incremental) reason = reason_elsewhere(layer->directory);
    if (reason) {
      set_row(row_of(*layer, kKept, std::move(*reason)));
    } else {
      sweep_layer(*layer);
    }
  }
  save();
}

/// Of a chain that was deleted in part: what is in another place would never be found again.
std::optional<std::string> RetentionRun::reason_elsewhere(const std::string& full) {
  const auto place =
      collection::hidden_incrementals(*store_, full, collection::Viewer::Administrator, stop_);
  if (!place) return std::nullopt;
  return fmt::format("its incremental backups are in {}", *place);
}

void RetentionRun::sweep_layer(const UnfinishedLayer& layer) {
  // Whoever has written the manifest meanwhile was not dead at all.
  if (store_->stat(collection::manifest_key(layer.directory), stop_)) return;
  std::vector<storage::ObjectKey> data;
  std::vector<storage::ObjectKey> last;
  const bool full = collection::parse_subdirectory(layer.directory).has_value();
  store_->list(
      layer.directory,
      [&](const storage::ObjectInfo& info) {
        if (full && (collection::is_of_other_collection(layer.directory, info.key) ||
                     info.key == collection::incremental_location_key(layer.directory))) {
          return;
        }
        const std::string_view name = std::string_view(info.key).substr(layer.directory.size() + 1);
        const bool holds = name.starts_with(collection::kLockPrefix) ||
                           name.starts_with(collection::kDeletionDirectory);
        (holds ? last : data).push_back(info.key);
      },
      stop_);
  std::uint64_t kept = collection::remove_objects(*store_, data, stop_);
  if (kept == 0 && full) kept = remove_ties(layer.directory);
  if (kept == 0) kept = collection::remove_objects(*store_, last, stop_);
  log::info("removed what was left in \"{}\", bytes={} kept={}", layer.directory, layer.bytes,
            kept);
  set_row(row_of(layer, kept == 0 ? kDeleted : kNotYet,
                 kept == 0 ? reason_to_sweep(layer) : refused(kept)));
}

void RetentionRun::trim_wal() {
  report("trimming WAL");
  for (const backup::TrimmedWal& trimmed :
       backup::trim_wal(*store_, surveyor_.survey(stop_), stop_)) {
    RetentionRow row;
    row.set_subdirectory(
        fmt::format("{}/{}", collection::kWalDirectory, trimmed.system_identifier));
    row.set_bytes(trimmed.bytes);
    row.set_action(trimmed.refused == 0 ? kDeleted : kNotYet);
    row.set_reason(trimmed.refused == 0 ? "no backup here needs it" : refused(trimmed.refused));
    set_row(std::move(row));
  }
  save();
}

void RetentionRun::release_lock() {
  collection::release_retention_lock(*store_, job_.id(), stop_);
  std::int64_t deleted = 0;
  std::int64_t bytes = 0;
  for (const RetentionRow& row : checkpoint_.rows()) {
    log::info("{} \"{}\": {}", row.action(), row.subdirectory(), row.reason());
    if (row.action() != kDeleted) continue;
    bytes += static_cast<std::int64_t>(row.bytes());
    if (row.has_layers()) ++deleted;
  }
  job_.set_result_rows(deleted);
  job_.set_result_bytes(bytes);
}

void RetentionRun::set_row(RetentionRow row) {
  for (RetentionRow& there : *checkpoint_.mutable_rows()) {
    if (there.subdirectory() != row.subdirectory()) continue;
    there = std::move(row);
    return;
  }
  *checkpoint_.add_rows() = std::move(row);
}

void RetentionRun::end_chain(RetentionRow row) {
  set_row(std::move(row));
  checkpoint_.clear_deleting();
  checkpoint_.clear_row();
  save();
}

void RetentionRun::save() { job_.save_checkpoint(as_bytes(checkpoint_.SerializeAsString())); }

void RetentionRun::report(std::string_view phase) {
  job_.report({.bytes_done = std::min(bytes_done_, bytes_total_),
               .bytes_total = bytes_total_,
               .phase = std::string(phase)});
}

}  // namespace holdfast::retention
