#include "backup/sign_of_life.h"

#include <chrono>

#include "collection/collection.h"
#include "manifest.pb.h"

namespace holdfast::backup {

namespace {

/// Retention waits for days, so that this is often enough, and costs nothing.
constexpr std::chrono::minutes kRenewedAfter{5};

}  // namespace

void SignOfLife::begin() { write(); }

void SignOfLife::renew() {
  const std::int64_t last = last_us_;
  const std::int64_t now = clock_.now().time_since_epoch().count();
  if (last == 0 || now - last < std::chrono::microseconds(kRenewedAfter).count()) return;
  // One thread writes; the others go on.
  if (writing_.exchange(true)) return;
  write();
  writing_ = false;
}

void SignOfLife::end() { collection::remove_checkpoints(store_, directory_, stop_); }

void SignOfLife::write() {
  collection::proto::Manifest sign;
  sign.set_job_id(job_);
  sign.set_subdirectory(directory_);
  const std::int64_t now = clock_.now().time_since_epoch().count();
  collection::write_checkpoint(store_, directory_, sign, static_cast<std::uint64_t>(now), stop_);
  last_us_ = now;
}

}  // namespace holdfast::backup
