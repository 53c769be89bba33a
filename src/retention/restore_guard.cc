#include "retention/restore_guard.h"

#include "base/error.h"
#include "restore_job.pb.h"
#include "retention/in_use.h"

namespace holdfast::retention {

void GuardedRestore::resume(jobs::JobContext& job) {
  restore::proto::RestoreJobSpec spec;
  const ByteView bytes = job.specification();
  if (!spec.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw Error(sqlstate::kInternalError, "the specification of the restore job cannot be read");
  }
  require_not_being_deleted(registry_, spec.subdirectory());
  body_->resume(job);
}

}  // namespace holdfast::retention
