#pragma once

#include "jobs/job.h"
#include "restore/object_restore.h"
#include "restore/restore_job.h"

namespace holdfast::restore {

/// Brings databases or tables of a cluster backup into the live server: recovered alone in a
/// workshop, then copied under hidden names, which become the real ones in one transaction at the
/// end. specification() is a proto::RestoreJobSpec with `objects`, checkpoint() a
/// proto::ObjectRestoreCheckpoint.
///
/// An interrupted job begins anew, from what follows from its id alone: the hidden names and the
/// workshop's directory are removed first.
///
/// Pause points: restore.objects_after_checks, restore.objects_after_catalogs (tables),
/// restore.objects_after_recovery, restore.objects_after_definitions, restore.objects_copy (once
/// per table), restore.objects_early_index (once per index of a large table),
/// restore.objects_after_copy, restore.objects_before_final, restore.objects_after_final;
/// restore.objects_between_commits (tables of several databases), restore.users_before_commit
/// (roles).
class ObjectRestoreJob final : public jobs::JobBody {
 public:
  explicit ObjectRestoreJob(const ObjectRestoreServices& services) : services_(services) {}

  void resume(jobs::JobContext& job) override;
  void revert(jobs::JobContext& job) override;

 private:
  const ObjectRestoreServices& services_;
};

/// The body of every RESTORE job: what the specification says is restored decides.
class AnyRestoreJob final : public jobs::JobBody {
 public:
  AnyRestoreJob(RestoreServices cluster, ObjectRestoreServices objects)
      : objects_services_(std::move(objects)),
        cluster_(std::move(cluster)),
        objects_(objects_services_) {}

  void resume(jobs::JobContext& job) override { body_for(job).resume(job); }
  void revert(jobs::JobContext& job) override { body_for(job).revert(job); }

 private:
  jobs::JobBody& body_for(const jobs::JobContext& job);

  ObjectRestoreServices objects_services_;
  RestoreJob cluster_;
  ObjectRestoreJob objects_;
};

}  // namespace holdfast::restore
