#include "collection/deletion_marks.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <set>
#include <string>

#include "base/error.h"
#include "collection/format.h"

namespace holdfast::collection {

namespace {

using storage::ObjectKey;
using storage::ObjectStore;

std::string deletion_directory(std::string_view full) {
  return fmt::format("{}/{}", full, kDeletionDirectory);
}

ObjectKey retention_lock_key(std::int64_t job_id) {
  return fmt::format("{}/{}{}", kRetentionDirectory, kRetentionLockPrefix, job_id);
}

/// Objects "<directory>/<prefix><job id>" that are not withdrawn.
std::vector<std::int64_t> jobs_in(ObjectStore& store, const std::string& directory,
                                  std::string_view prefix, const Stop& stop) {
  std::set<std::int64_t> jobs;
  std::set<std::int64_t> withdrawn;
  const std::string start = fmt::format("{}/{}", directory, prefix);
  store.list(
      directory,
      [&](const storage::ObjectInfo& info) {
        if (!info.key.starts_with(start)) return;
        const std::string_view name = std::string_view(info.key).substr(start.size());
        std::int64_t job = 0;
        const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), job);
        if (failure != std::errc()) return;
        const std::string_view rest(end, static_cast<std::size_t>(name.end() - end));
        if (rest.empty()) jobs.insert(job);
        if (rest == kWithdrawnSuffix) withdrawn.insert(job);
      },
      stop);
  std::vector<std::int64_t> counted;
  std::ranges::set_difference(jobs, withdrawn, std::back_inserter(counted));
  return counted;
}

void withdraw(ObjectStore& store, const ObjectKey& key, const Stop& stop) {
  if (storage::remove_if_allowed(store, key, stop)) return;
  store.put(fmt::format("{}{}", key, kWithdrawnSuffix), as_bytes("withdrawn"),
            storage::PutMode::OnlyIfAbsent, stop);
}

}  // namespace

ObjectKey deletion_mark_key(std::string_view full, std::int64_t job_id) {
  return fmt::format("{}/{}{}", deletion_directory(full), kDeletionPrefix, job_id);
}

bool mark_deletion(ObjectStore& store, std::string_view full, std::int64_t job_id,
                   const Stop& stop) {
  store.put(deletion_mark_key(full, job_id), as_bytes("deleting"), storage::PutMode::OnlyIfAbsent,
            stop);
  return std::ranges::binary_search(deletion_marks(store, full, stop), job_id);
}

void withdraw_deletion(ObjectStore& store, std::string_view full, std::int64_t job_id,
                       const Stop& stop) {
  withdraw(store, deletion_mark_key(full, job_id), stop);
}

std::vector<std::int64_t> deletion_marks(ObjectStore& store, std::string_view full,
                                         const Stop& stop) {
  return jobs_in(store, deletion_directory(full), kDeletionPrefix, stop);
}

void require_not_deleted(ObjectStore& store, std::string_view full, const Stop& stop) {
  const auto marks = deletion_marks(store, full, stop);
  if (marks.empty()) return;
  throw Error(sqlstate::kObjectInUse, fmt::format("backup \"{}\" is being deleted", full))
      .detail(fmt::format("Job {} deletes it and its incremental layers.", marks.front()))
      .hint("Start a new chain with BACKUP INTO.");
}

void take_retention_lock(ObjectStore& store, std::int64_t job_id,
                         const std::function<bool(std::int64_t)>& has_ended, const Stop& stop) {
  const ObjectKey key = retention_lock_key(job_id);
  const bool resumed = store.put(key, as_bytes("lock"), storage::PutMode::OnlyIfAbsent, stop) ==
                       storage::PutResult::Taken;
  // Put first, looked around second: of two that do so at once, at least one sees the other.
  for (const std::int64_t other :
       jobs_in(store, std::string(kRetentionDirectory), kRetentionLockPrefix, stop)) {
    if (other == job_id || has_ended(other)) continue;
    if (!resumed) withdraw(store, key, stop);
    throw Error(sqlstate::kObjectInUse,
                fmt::format("another DELETE BACKUPS is at work in {}", store.description()))
        .detail(fmt::format("It is job {}.", other))
        .hint("Wait until it has ended, or end it with CANCEL JOB.");
  }
}

void release_retention_lock(ObjectStore& store, std::int64_t job_id, const Stop& stop) {
  withdraw(store, retention_lock_key(job_id), stop);
}

}  // namespace holdfast::collection
