#include "retention/in_use.h"

#include <fmt/format.h>

#include <algorithm>

#include "backup_job.pb.h"
#include "base/error.h"
#include "collection/chain.h"
#include "restore_job.pb.h"
#include "retention_job.pb.h"

namespace holdfast::retention {

namespace {

using jobs::JobStatus;

std::vector<jobs::Job> unfinished(const jobs::Registry& registry, std::string_view type) {
  std::vector<JobStatus> statuses;
  for (const JobStatus status : jobs::kAllJobStatuses) {
    if (!jobs::is_terminal(status)) statuses.push_back(status);
  }
  return registry.list({.type = std::string(type), .statuses = std::move(statuses)});
}

std::string full_of(std::string_view layer) {
  const auto incremental = collection::parse_incremental_directory(layer);
  return incremental ? incremental->full : std::string(layer);
}

template <typename Message>
Message parse(const Bytes& bytes, std::string_view type) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw Error(sqlstate::kInternalError,
                fmt::format("what a {} job left in the store cannot be read", type));
  }
  return message;
}

}  // namespace

InUse chains_of_jobs(const jobs::Registry& registry) {
  InUse used;
  for (const jobs::Job& job : unfinished(registry, jobs::kBackupType)) {
    const auto spec =
        parse<backup::proto::BackupJobSpec>(registry.specification(job.id), jobs::kBackupType);
    used.emplace(full_of(spec.subdirectory()), fmt::format("backup job {} works in it", job.id));
    // A full of an earlier moment is made of another chain.
    if (spec.has_as_of()) {
      used.emplace(full_of(spec.as_of().layer()), fmt::format("backup job {} reads it", job.id));
    }
  }
  for (const jobs::Job& job : unfinished(registry, jobs::kRestoreType)) {
    const auto spec =
        parse<restore::proto::RestoreJobSpec>(registry.specification(job.id), jobs::kRestoreType);
    used.emplace(full_of(spec.subdirectory()), fmt::format("restore job {} reads it", job.id));
  }
  for (const jobs::Job& job : unfinished(registry, jobs::kVerifyType)) {
    const auto spec =
        parse<restore::proto::RestoreJobSpec>(registry.specification(job.id), jobs::kVerifyType);
    used.emplace(full_of(spec.subdirectory()), fmt::format("verify job {} reads it", job.id));
  }
  return used;
}

std::optional<jobs::JobId> backup_into(const jobs::Registry& registry, std::string_view directory) {
  for (const jobs::Job& job : unfinished(registry, jobs::kBackupType)) {
    const auto spec =
        parse<backup::proto::BackupJobSpec>(registry.specification(job.id), jobs::kBackupType);
    if (spec.subdirectory() == directory) return job.id;
  }
  return std::nullopt;
}

bool Workers::is_young(Time moment) const { return registry_.clock().now() - moment < young_; }

bool Workers::may_work(jobs::JobId job, Time newest_sign) const {
  if (const auto row = registry_.find(job)) return !jobs::is_terminal(row->status);
  return is_young(std::max(newest_sign, jobs::creation_time(job)));
}

std::optional<jobs::JobId> Workers::working(const std::vector<jobs::JobId>& jobs,
                                            Time newest_sign) const {
  for (const jobs::JobId job : jobs) {
    if (may_work(job, newest_sign)) return job;
  }
  return std::nullopt;
}

InUse chains_in_use(const jobs::Registry& registry, const Workers& workers,
                    const std::vector<collection::SurveyedChain>& chains) {
  InUse used = chains_of_jobs(registry);
  for (const collection::SurveyedChain& chain : chains) {
    const auto job = workers.working(chain.locks, chain.newest_sign.value_or(Time()));
    if (job) used.emplace(chain.full, fmt::format("job {} has a lock in it", *job));
  }
  return used;
}

void require_not_being_deleted(const jobs::Registry& registry, std::string_view layer) {
  const std::string full = full_of(layer);
  for (const jobs::Job& job : unfinished(registry, jobs::kDeleteBackupsType)) {
    const auto bytes = registry.checkpoint(job.id);
    if (!bytes) continue;
    const auto checkpoint = parse<proto::RetentionCheckpoint>(*bytes, jobs::kDeleteBackupsType);
    if (checkpoint.deleting() != full) continue;
    throw Error(sqlstate::kObjectInUse, fmt::format("backup \"{}\" is being deleted", full))
        .detail(fmt::format("Job {} deletes it and its incremental layers.", job.id))
        .hint("Restore another backup; SHOW BACKUPS IN lists them.");
  }
}

}  // namespace holdfast::retention
