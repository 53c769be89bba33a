#pragma once

#include <memory>
#include <utility>

#include "jobs/job.h"
#include "jobs/registry.h"

namespace holdfast::retention {

/// A RESTORE or VERIFY BACKUP job that is refused while its backup is being deleted: see
/// require_not_being_deleted(). Everything else is the body's own.
class GuardedRestore final : public jobs::JobBody {
 public:
  GuardedRestore(std::unique_ptr<jobs::JobBody> body, const jobs::Registry& registry)
      : body_(std::move(body)), registry_(registry) {}

  void resume(jobs::JobContext& job) override;
  void revert(jobs::JobContext& job) override { body_->revert(job); }

 private:
  const std::unique_ptr<jobs::JobBody> body_;
  const jobs::Registry& registry_;
};

}  // namespace holdfast::retention
