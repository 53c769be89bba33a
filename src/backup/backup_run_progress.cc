// What a backup tells while it copies, and what it keeps for another attempt.
#include <algorithm>
#include <chrono>
#include <utility>

#include "backup/backup_run.h"
#include "backup/backup_run_internal.h"
#include "base/delayed_stop.h"
#include "base/log.h"
#include "base/stop.h"
#include "collection/collection.h"

namespace holdfast::backup {

namespace {

namespace manifest = collection::proto;

constexpr std::size_t kCheckpointPacks = 16;
constexpr std::chrono::seconds kCheckpointAfter{10};
/// What the last checkpoint of an attempt may take. A pause and a shutdown wait for it, and the one
/// before is not old; so nothing is lost with a storage that hangs but a little work.
constexpr std::chrono::milliseconds kHaste{1500};

}  // namespace

void BackupRun::save_progress() {
  if (written_ || !reused_ || copy_.ledger.size() == 0) return;
  const DelayedStop delayed(kHaste);
  try {
    write_checkpoint(delayed.stop());
  } catch (const Stopped&) {
    log::warning("the storage is too slow: progress since the last checkpoint is not kept");
  }
}

void BackupRun::frame_done(std::uint64_t bytes) {
  bytes_done_ += bytes;
  wal_->check();
  report();
}

void BackupRun::pack_stored() {
  job_.pause_point("backup.copy");
  ++packs_since_checkpoint_;
  const auto now = microseconds(environment_.clock->now());
  const bool due = packs_since_checkpoint_ >= kCheckpointPacks ||
                   now - last_checkpoint_us_ >= std::chrono::microseconds(kCheckpointAfter).count();
  // One thread writes; the others go on.
  if (!due || checkpointing_.exchange(true)) return;
  packs_since_checkpoint_ = 0;
  write_checkpoint(stop_);
  // A checkpoint of very many files takes long itself.
  const auto end = microseconds(environment_.clock->now());
  last_checkpoint_us_ = end + (end - now);
  checkpointing_ = false;
}

void BackupRun::write_checkpoint(const Stop& stop) {
  manifest::Manifest partial = manifest_;
  // When writing the manifest failed, it has them already: twice there, the next attempt would have
  // every pack twice.
  partial.clear_files();
  partial.clear_packs();
  copy_.files.store(partial);
  for (auto& pack : copy_.ledger.packs()) *partial.add_packs() = std::move(pack);
  collection::write_checkpoint(*store_, spec_.subdirectory(), partial,
                               static_cast<std::uint64_t>(microseconds(environment_.clock->now())),
                               stop);
  log::info("checkpoint, packs={}", partial.packs_size());
}

void BackupRun::enter(std::string phase) {
  phase_ = std::move(phase);
  report();
}

void BackupRun::report() {
  job_.report({.bytes_done = std::min(bytes_done_.load(), bytes_total_),
               .bytes_total = bytes_total_,
               .phase = phase_});
}

}  // namespace holdfast::backup
