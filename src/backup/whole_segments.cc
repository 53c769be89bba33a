#include "backup/whole_segments.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "backup/wal_archives.h"
#include "base/error.h"
#include "base/worker_pool.h"
#include "collection/collection.h"
#include "postgres/wal_position.h"

namespace holdfast::backup {

namespace {

using collection::WalSegmentId;

/// The storage may be slow; a standby's primary may take its time.
constexpr std::chrono::minutes kSegmentPatience{10};
constexpr std::chrono::milliseconds kSegmentPoll{100};
/// Waits for the storage more than for the processor.
constexpr std::size_t kReaders = 8;

Error not_whole(const WalSegmentId& id, std::string why) {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               fmt::format("the archive has only the beginning of WAL segment {}",
                           postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes)))
      .detail("A layer needs whole segments. " + std::move(why));
}

void switch_segment(const SegmentWait& wait, const WalSegmentId& id) {
  const Stop& stop = wait.job.stop();
  const auto position = postgres::wal_position(wait.connection, "", stop);
  if (!position || position->timeline != id.timeline) {
    throw not_whole(id, "PostgreSQL does not write on that timeline any more.");
  }
  if (!position->inserted) {
    wait.job.notice(
        "waiting for the primary to finish the WAL segment that the moment lies in; "
        "SELECT pg_switch_wal() there makes it do so at once");
    return;
  }
  if (segment_of(*position->inserted, id.segment_bytes) != id.segment) return;
  wait.connection.query("SELECT pg_catalog.pg_switch_wal()", stop);
}

/// Notes the sizes of the segments; throws what `missing` makes of the key of one that is not
/// there.
template <typename Missing>
void find_all(storage::ObjectStore& store, collection::proto::Manifest& layer,
              const Missing& missing, const Stop& stop) {
  auto& wal = *layer.mutable_wal();
  std::atomic<int> next = 0;
  run_workers(std::clamp<std::size_t>(static_cast<std::size_t>(wal.size()), 1, kReaders), stop,
              [&](std::size_t, const Stop& worker_stop) {
                for (int i = next++; i < wal.size(); i = next++) {
                  const WalSegmentId id = collection::wal_segment_of(layer, wal[i]);
                  const auto stored = collection::stat_wal_segment(store, id, worker_stop);
                  if (!stored) throw missing(collection::wal_segment_key(id));
                  wal[i].set_stored_bytes(*stored);
                }
              });
}

}  // namespace

void wait_for_whole_segment(const SegmentWait& wait, const WalSegmentId& id) {
  const Stop& stop = wait.job.stop();
  if (collection::stat_wal_segment(wait.store, id, stop)) return;
  switch_segment(wait, id);
  const auto* archives = wait.environment.archives;
  const auto deadline = std::chrono::steady_clock::now() + kSegmentPatience;
  while (!collection::stat_wal_segment(wait.store, id, stop)) {
    if (archives == nullptr || !archives->find(wait.collection_uri)) {
      throw not_whole(id, "The collection's WAL archive has ended.");
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      throw not_whole(id, "It did not come within ten minutes; SHOW WAL ARCHIVES tells why.");
    }
    stop.sleep(kSegmentPoll);
  }
}

void find_segments(storage::ObjectStore& store, collection::proto::Manifest& layer,
                   const Stop& stop) {
  find_all(
      store, layer,
      [&](const storage::ObjectKey& key) {
        return Error(sqlstate::kUndefinedFile,
                     fmt::format("WAL object \"{}\" is missing in {}", key, store.description()));
      },
      stop);
}

void require_segments(storage::ObjectStore& store, collection::proto::Manifest& layer,
                      const Stop& stop) {
  find_all(
      store, layer,
      [&](const storage::ObjectKey& key) {
        return Error(sqlstate::kObjectNotInPrerequisiteState,
                     fmt::format("WAL object \"{}\" was removed while the backup ran", key))
            .detail(
                "It had been put, or found, and somebody has removed it since: another backup into "
                "the collection that was canceled, or a deletion of backups, took it for unneeded.")
            .hint("Take the backup again.")
            .retry(Retry::Safe);
      },
      stop);
}

}  // namespace holdfast::backup
