#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <stop_token>

namespace holdfast {

/// Why a wait or a loop should end early.
enum class StopReason { None, Pause, Cancel, Shutdown };

/// Thrown where a stop request takes effect. Not a std::exception: no handler for failures can
/// swallow it.
struct Stopped {
  StopReason reason;
};

/// The receiving end of a stop request. Cheap to copy; every function that can wait or loop over
/// bytes takes one by const reference, and a request takes effect within two seconds.
class Stop {
 public:
  /// A Stop that is never requested.
  static Stop never() { return Stop(); }

  bool requested() const { return token_.stop_requested(); }
  StopReason reason() const { return reason_ && requested() ? reason_->load() : StopReason::None; }
  /// Throws Stopped if a stop was requested.
  void check() const {
    if (requested()) throw Stopped{reason()};
  }
  /// Sleeps for `duration`; throws Stopped as soon as a stop is requested.
  void sleep(std::chrono::milliseconds duration) const;
  /// For std::condition_variable_any and std::stop_callback.
  const std::stop_token& token() const { return token_; }

 private:
  friend class StopSource;
  Stop() = default;
  Stop(std::stop_token token, std::shared_ptr<std::atomic<StopReason>> reason)
      : token_(std::move(token)), reason_(std::move(reason)) {}

  std::stop_token token_;
  // Shared by the source and all its Stops; the last of them frees it.
  std::shared_ptr<std::atomic<StopReason>> reason_;
};

/// The sending end. The first reason wins.
class StopSource {
 public:
  void request(StopReason reason) {
    StopReason none = StopReason::None;
    reason_->compare_exchange_strong(none, reason);
    source_.request_stop();
  }
  Stop stop() const { return Stop(source_.get_token(), reason_); }

 private:
  std::stop_source source_;
  std::shared_ptr<std::atomic<StopReason>> reason_ =
      std::make_shared<std::atomic<StopReason>>(StopReason::None);
};

}  // namespace holdfast
