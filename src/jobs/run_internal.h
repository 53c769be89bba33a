#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/mutex.h"
#include "base/stop.h"
#include "jobs/job.h"
#include "jobs/progress.h"
#include "jobs/runner.h"

namespace holdfast::jobs {

/// What a job has told its waiting sessions. Thread-safe.
class Runner::Notices {
 public:
  void add(std::string_view message);
  /// The messages from number `from` on.
  std::vector<std::string> since(std::size_t from);

 private:
  Mutex mutex_;
  std::vector<std::string> messages_ HF_GUARDED_BY(mutex_);
};

/// One job's thread, from its start until the job is paused, ended or shut down: first forward,
/// and, after a failure or a cancel, back.
class Runner::Run final : public JobContext {
 public:
  /// `job` is the row as it stands.
  Run(Runner& runner, const Job& job, std::shared_ptr<Notices> notices);

  void start();
  void join() { thread_.join(); }
  bool reverting() const { return reverting_.load(); }
  bool takes_slot() const { return runner_.takes_slot(type_); }
  /// Tells the thread; the row has been written. Only under status_mutex_.
  void request_stop(StopReason reason) { source_.request(reason); }
  /// Writes the row's progress if it has changed.
  void write_progress();

  JobId id() const override { return id_; }
  ByteView specification() const override { return specification_; }
  const Stop& stop() const override { return stop_; }
  std::optional<Bytes> checkpoint() const override { return runner_.registry_.checkpoint(id_); }
  void save_checkpoint(ByteView bytes) override { runner_.registry_.save_checkpoint(id_, bytes); }
  void report(const Progress& progress) override;
  void set_result_rows(std::int64_t rows) override { result_rows_.store(rows); }
  void set_result_bytes(std::int64_t bytes) override {
    runner_.registry_.set_result_bytes(id_, bytes);
  }
  void notice(std::string_view message) override;
  void pause_point(std::string_view name) override;

 private:
  enum class End { Done, Stopped, Failed };
  enum class EndRun { No, Yes };
  struct Attempt {
    End end = End::Done;
    std::optional<Error> error = std::nullopt;
  };
  using Work = std::function<void(JobBody&)>;

  void work();
  bool go_forward();
  void go_back();
  Attempt attempt(const Work& work);
  Attempt attempt_repeatedly(const Work& work);
  bool wait_before_retry(const Error& error, int failures);
  bool pause_or_turn_back(const Error& error);
  void settle(const std::function<EndRun()>& change);
  void settle_after(const std::function<void()>& change);
  bool turn_back(JobStatus end, const Error& error);
  bool persist(const std::function<void()>& change);
  const JobKind* kind() const;
  std::string describe_failure(const Error& error) const;
  double fraction();

  Runner& runner_;
  const JobId id_;
  const std::string type_;
  const Time started_;
  const std::shared_ptr<Notices> notices_;  // the runner and waiting sessions share it
  Bytes specification_;
  std::atomic<bool> reverting_;
  std::atomic<std::int64_t> result_rows_{0};
  JobStatus end_status_ = JobStatus::Failed;  // of reverting

  // Replaced between forward and back, under status_mutex_ and with no other thread of the body.
  StopSource source_;
  Stop stop_;

  Mutex mutex_;
  ProgressMeter meter_ HF_GUARDED_BY(mutex_);
  std::string override_text_ HF_GUARDED_BY(mutex_);
  std::string written_text_ HF_GUARDED_BY(mutex_);
  double written_fraction_ HF_GUARDED_BY(mutex_);

  std::jthread thread_;
};

}  // namespace holdfast::jobs
