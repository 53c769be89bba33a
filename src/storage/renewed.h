#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/stop.h"

namespace holdfast::storage {

/// Credentials are renewed so long before they expire, as the AWS SDKs do.
inline constexpr std::chrono::minutes kBeforeExpiry{5};
/// After a failed renewal, what is kept is used so long without another try.
inline constexpr std::chrono::seconds kRenewalPause{10};

/// Keeps credentials until shortly before they expire: `Credentials` has a member
/// `std::optional<Time> expires`, absent for those that are not known to. Thread-safe.
template <typename Credentials>
class Renewed {
 public:
  explicit Renewed(const Clock& clock) : clock_(clock) {}

  /// What is kept, or what `fetch(stop)` gives. Where that throws an Error, what is kept is used up
  /// to the moment that it expires: a hiccup of the service that hands credentials out ends nothing
  /// that these can still do.
  template <typename Fetch>
  Credentials get(const Fetch& fetch, const Stop& stop) {
    {
      const MutexLock lock(mutex_);
      if (kept_ && (!kept_->expires || clock_.now() < renew_from_)) return *kept_;
    }
    try {
      // Without the lock, because this may take seconds. Two threads that fetch at once do no harm.
      Credentials fetched = fetch(stop);
      const MutexLock lock(mutex_);
      kept_ = std::move(fetched);
      if (kept_->expires) renew_from_ = *kept_->expires - kBeforeExpiry;
      return *kept_;
    } catch (const Error& error) {
      std::optional<Credentials> good = put_off_renewal();
      if (!good) throw;
      log::warning("could not renew storage credentials, which are good until {}: {}",
                   format_rfc3339(*good->expires), error.message());
      return *std::move(good);
    }
  }

  /// Forgets what is kept if `refused(kept)`: the server does not take it.
  template <typename Refused>
  void forget_if(const Refused& refused) {
    const MutexLock lock(mutex_);
    if (kept_ && refused(*kept_)) kept_.reset();
  }

 private:
  /// What is kept and has not expired; absent where there is no such thing.
  std::optional<Credentials> put_off_renewal() {
    const MutexLock lock(mutex_);
    const Time now = clock_.now();
    if (!kept_ || !kept_->expires || now >= *kept_->expires) return std::nullopt;
    renew_from_ = std::min<Time>(now + kRenewalPause, *kept_->expires);
    return kept_;
  }

  const Clock& clock_;
  Mutex mutex_;
  std::optional<Credentials> kept_ HF_GUARDED_BY(mutex_);
  Time renew_from_ HF_GUARDED_BY(mutex_);  // where kept_ expires
};

}  // namespace holdfast::storage
