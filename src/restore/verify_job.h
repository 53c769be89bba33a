#pragma once

#include <utility>

#include "jobs/job.h"
#include "restore/object_restore.h"

namespace holdfast::restore {

/// Proves that a backup can be restored: reads every object of its chain, recovers it in a
/// workshop, and has PostgreSQL check every table and B-tree index there (relation_checks.h).
/// specification() is a proto::RestoreJobSpec with `verify`, checkpoint() a
/// proto::VerifyCheckpoint. The live server is not touched.
///
/// Ends with kDataCorrupted and what is damaged, or succeeds. An interrupted job does not read the
/// objects again once it has read all of them; recovery begins anew.
///
/// Pause points: verify.after_objects, verify.after_recovery, verify.relation (once per relation).
class VerifyJob final : public jobs::JobBody {
 public:
  /// Of `services`, `live` is not used.
  explicit VerifyJob(ObjectRestoreServices services) : services_(std::move(services)) {}

  void resume(jobs::JobContext& job) override;
  void revert(jobs::JobContext& job) override;

 private:
  const ObjectRestoreServices services_;
};

}  // namespace holdfast::restore
