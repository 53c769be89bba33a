#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "base/free_memory.h"
#include "base/log.h"
#include "jobs/run_internal.h"

namespace holdfast::jobs {

namespace {

constexpr std::size_t kNoticesKept = 1000;
constexpr std::chrono::milliseconds kPersistRetry{1000};
constexpr std::chrono::milliseconds kStallPoll{20};
/// The counter of failed attempts starts anew after this much progress.
/// Source: CockroachDB, backup job's retry loop (23.1).
constexpr double kProgressThatCounts = 0.01;
constexpr int kLongestBackoff = 30;  // times first_retry_after

Error canceled_error() { return Error(sqlstate::kQueryCanceled, "job canceled by user"); }

/// What a pause point does that concerns no job.
void act(const PauseHit& hit, const Stop& stop) {
  if (hit.action == PauseAction::Kill) kill(getpid(), SIGKILL);
  if (hit.action != PauseAction::Stall) return;
  while (hit.file.empty() || !std::filesystem::exists(hit.file)) stop.sleep(kStallPoll);
}

Error from_exception(const std::exception& exception) {
  return Error(sqlstate::kInternalError, exception.what());
}

}  // namespace

void Runner::Notices::add(std::string_view message) {
  MutexLock lock(mutex_);
  if (messages_.size() < kNoticesKept) messages_.emplace_back(message);
}

std::vector<std::string> Runner::Notices::since(std::size_t from) {
  MutexLock lock(mutex_);
  if (from >= messages_.size()) return {};
  return {messages_.begin() + static_cast<std::ptrdiff_t>(from), messages_.end()};
}

Runner::Run::Run(Runner& runner, const Job& job, std::shared_ptr<Notices> notices)
    : runner_(runner),
      id_(job.id),
      type_(job.type),
      started_(runner.registry_.clock().now()),
      notices_(std::move(notices)),
      specification_(runner.registry_.specification(job.id)),
      reverting_(job.reverts_to.has_value()),
      end_status_(job.reverts_to.value_or(JobStatus::Failed)),
      stop_(source_.stop()),
      meter_(job.fraction_completed),
      written_fraction_(job.fraction_completed) {}

void Runner::Run::start() {
  thread_ = std::jthread([this] { work(); });
}

void Runner::Run::report(const Progress& progress) {
  MutexLock lock(mutex_);
  meter_.report(progress);
  override_text_.clear();
}

void Runner::Run::notice(std::string_view message) {
  log::info("{}", message);
  notices_->add(message);
  runner_.wake();
}

void Runner::Run::write_progress() {
  double fraction = 0;
  std::string text;
  {
    MutexLock lock(mutex_);
    fraction = meter_.fraction();
    const std::string measured = meter_.text(std::chrono::steady_clock::now());
    text = override_text_.empty() ? measured : override_text_;
    if (fraction == written_fraction_ && text == written_text_) return;
  }
  runner_.registry_.set_progress(id_, fraction, text);
  MutexLock lock(mutex_);
  written_fraction_ = fraction;
  written_text_ = text;
}

double Runner::Run::fraction() {
  MutexLock lock(mutex_);
  return meter_.fraction();
}

void Runner::Run::pause_point(std::string_view name) {
  const auto hit = runner_.pause_points_.reach(name);
  if (!hit) return;
  log::info("reached pause point {}", name);
  switch (hit->action) {
    case PauseAction::Pause:
      runner_.pause(id_, fmt::format("pause point {}", name));
      stop_.check();
      return;
    case PauseAction::Kill:
    case PauseAction::Stall:
      return act(*hit, stop_);
    case PauseAction::Fail:
      throw Error(sqlstate::kInternalError, fmt::format("pause point \"{}\" failed the job", name));
    case PauseAction::Retry:
      throw Error(sqlstate::kInternalError,
                  fmt::format("pause point \"{}\" failed the attempt", name))
          .retry(Retry::Safe);
  }
}

void Runner::pause_point(std::string_view name, const Stop& stop) {
  const auto hit = pause_points_.reach(name);
  if (!hit) return;
  log::info("reached pause point {}", name);
  act(*hit, stop);
}

const JobKind* Runner::Run::kind() const {
  const auto found = runner_.kinds_.find(type_);
  return found != runner_.kinds_.end() ? &found->second : nullptr;
}

void Runner::Run::work() {
  const log::ThreadTag tag(fmt::format("job={}", id_));
  if (reverting_ || go_forward()) go_back();
  give_back_free_memory();
}

/// True when the job must revert; otherwise the run has ended.
bool Runner::Run::go_forward() {
  log::info("{} job started", type_);
  const Attempt attempt = attempt_repeatedly([this](JobBody& body) { body.resume(*this); });
  const auto seconds =
      std::chrono::duration<double>(runner_.registry_.clock().now() - started_).count();
  switch (attempt.end) {
    case End::Done:
      log::info("{} job succeeded, seconds={:.1f}", type_, seconds);
      settle_after([this] { runner_.registry_.succeed(id_, result_rows_); });
      return false;
    case End::Stopped:
      if (stop_.reason() == StopReason::Cancel) {
        log::info("{} job is canceled, removing what it left behind", type_);
        return turn_back(JobStatus::Canceled, canceled_error());
      }
      if (stop_.reason() == StopReason::Pause) {
        log::info("{} job paused", type_);
        settle_after([this] { runner_.registry_.move(id_, JobStatus::Paused); });
      } else {
        log::info("{} job stops with the daemon, it goes on at the next start", type_);
        settle_after([] {});
      }
      return false;
    case End::Failed:
      break;
  }
  const Error& error = *attempt.error;
  if (error.state() == sqlstate::kDiskFull && kind() != nullptr &&
      kind()->on_disk_full == OnDiskFull::Pause) {
    log::warning("{} job paused, the disk is full: {}", type_, error.message());
    return pause_or_turn_back(error);
  }
  log::error("{} job failed: {}, seconds={:.1f}", type_, error.message(), seconds);
  return turn_back(JobStatus::Failed, error);
}

/// As go_forward(): a cancel that came while the job was failing wins over the pause.
bool Runner::Run::pause_or_turn_back(const Error& error) {
  bool canceled = false;
  settle([&] {
    canceled = runner_.registry_.get(id_).status == JobStatus::CancelRequested;
    if (canceled) return EndRun::No;
    runner_.registry_.pause_for(id_, error);
    return EndRun::Yes;
  });
  return canceled && turn_back(JobStatus::Canceled, canceled_error());
}

void Runner::Run::go_back() {
  const Attempt attempt = attempt_repeatedly([this](JobBody& body) { body.revert(*this); });
  switch (attempt.end) {
    case End::Done:
      log::info("{} job reverted", type_);
      settle_after([this] { runner_.registry_.move(id_, end_status_); });
      return;
    case End::Stopped:
      if (stop_.reason() == StopReason::Pause) {
        settle_after([this] { runner_.registry_.move(id_, JobStatus::Paused); });
      } else {
        settle_after([] {});
      }
      return;
    case End::Failed:
      log::error("{} job could not be reverted: {}", type_, attempt.error->message());
      settle_after([&] { runner_.registry_.fail_revert(id_, *attempt.error); });
      return;
  }
}

Runner::Run::Attempt Runner::Run::attempt(const Work& work) {
  std::optional<Error> error;
  try {
    if (kind() == nullptr) {
      throw Error(sqlstate::kFeatureNotSupported,
                  fmt::format("this holdfast cannot run jobs of type {}", type_));
    }
    const std::unique_ptr<JobBody> body = kind()->make();
    work(*body);
    return {};
  } catch (const Stopped&) {
    if (!stop_.requested()) {
      error = Error(sqlstate::kInternalError, "job stopped without a request");
    }
  } catch (const Error& failure) {
    error = failure;
  } catch (const std::exception& failure) {
    error = from_exception(failure);
  }
  if (!stop_.requested()) return {.end = End::Failed, .error = error};
  // What was interrupted may end in an error of its own: an aborted transfer, a cancelled query. A
  // real failure will show again after a pause or a restart.
  if (error) log::info("stopped on request, with: {}", error->message());
  return {.end = End::Stopped};
}

Runner::Run::Attempt Runner::Run::attempt_repeatedly(const Work& work) {
  double reached = fraction();
  for (int failures = 1;; ++failures) {
    Attempt result = attempt(work);
    if (result.end != End::Failed) return result;
    const double now = fraction();
    if (now - reached >= kProgressThatCounts) failures = 1;
    reached = now;
    const bool again = result.error->retry_is_safe() && failures < runner_.options_.attempts;
    persist([&] { runner_.registry_.add_execution_error(id_, describe_failure(*result.error)); });
    if (!again) {
      if (result.error->retry_is_safe()) result.error->at("exhausted retries");
      return result;
    }
    if (!wait_before_retry(*result.error, failures)) return {.end = End::Stopped};
  }
}

/// False when a stop was requested meanwhile.
bool Runner::Run::wait_before_retry(const Error& error, int failures) {
  const auto wait =
      runner_.options_.first_retry_after * std::min(1 << (failures - 1), kLongestBackoff);
  log::warning("attempt {} failed, trying again in {} ms: {}", failures, wait.count(),
               error.message());
  {
    MutexLock lock(mutex_);
    override_text_ = fmt::format("trying again after: {}", error.message());
  }
  try {
    stop_.sleep(wait);
  } catch (const Stopped&) {
    return false;
  }
  return true;
}

// As CockroachDB words the entries of execution_errors.
std::string Runner::Run::describe_failure(const Error& error) const {
  return fmt::format("{} execution from '{}' to '{}' on {} failed: {}",
                     reverting_ ? "reverting" : "running", format_timestamptz(started_),
                     format_timestamptz(runner_.registry_.clock().now()),
                     runner_.registry_.node_id(), error.message());
}

/// Makes the last change of this run to the row and ends the run, as one step for everybody else.
/// The run goes on when `change` says so.
void Runner::Run::settle(const std::function<EndRun()>& change) {
  // The figures that were reached matter to people only; the status below must be written.
  try {
    write_progress();
  } catch (const Error& failure) {
    log::warning("{}", failure.message());
  }
  const bool written = persist([&] {
    if (change() == EndRun::Yes) runner_.run_ended(id_);
  });
  if (!written) {
    MutexLock lock(runner_.status_mutex_);
    runner_.run_ended(id_);
  }
}

void Runner::Run::settle_after(const std::function<void()>& change) {
  settle([&] {
    change();
    return EndRun::Yes;
  });
}

/// False when the daemon stops before the change could be written.
bool Runner::Run::turn_back(JobStatus end, const Error& error) {
  try {
    write_progress();
  } catch (const Error& failure) {
    log::warning("{}", failure.message());
  }
  const bool written = persist([&] {
    // A cancel that came while the job was failing has its way.
    const JobStatus now = runner_.registry_.get(id_).status;
    const bool canceled = now == JobStatus::CancelRequested;
    end_status_ = canceled ? JobStatus::Canceled : end;
    runner_.registry_.begin_revert(id_, end_status_, canceled ? canceled_error() : error);
    source_ = StopSource();
    stop_ = source_.stop();
    if (runner_.shutdown_.stop().requested()) source_.request(StopReason::Shutdown);
    reverting_ = true;
  });
  if (!written) settle_after([] {});
  runner_.wake();
  return written;
}

/// Makes `change` under status_mutex_, again and again until the state file takes it: a job whose
/// end cannot be recorded must not be forgotten. False when the daemon stops before.
bool Runner::Run::persist(const std::function<void()>& change) {
  for (;;) {
    try {
      MutexLock lock(runner_.status_mutex_);
      change();
      return true;
    } catch (const Error& failure) {
      log::error("{}", failure.message());
    }
    try {
      runner_.shutdown_.stop().sleep(kPersistRetry);
    } catch (const Stopped&) {
      return false;
    }
  }
}

}  // namespace holdfast::jobs
