#include "jobs/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "jobs/run_internal.h"

namespace holdfast::jobs {

namespace {

constexpr std::size_t kNoticesOfJobs = 64;  // the newest jobs whose notices are remembered
constexpr std::chrono::hours kForgetEvery{1};
constexpr std::chrono::milliseconds kLongestWait{1000};

/// For a session that waits for a job that was paused, by somebody or by itself.
Error paused_error(const Job& job) {
  const std::string hint = fmt::format(
      "RESUME JOB {} lets it go on, CANCEL JOB {} removes what it left behind.", job.id, job.id);
  if (job.error && !job.reverts_to) {
    return Error(job.error->state(), job.error->message())
        .detail(fmt::format("Job {} is paused with what it has finished.", job.id))
        .hint(hint);
  }
  std::string message = fmt::format("job {} was paused before it completed", job.id);
  if (job.pause_reason) message += fmt::format(" with reason: {}", *job.pause_reason);
  return Error(sqlstate::kObjectNotInPrerequisiteState, std::move(message)).hint(hint);
}

}  // namespace

Runner::Runner(Registry& registry, RunnerOptions options)
    : registry_(registry), options_(std::move(options)), pause_points_(options_.pause_points) {
  HF_ASSERT(options_.concurrency > 0 && options_.attempts > 0);
}

Runner::~Runner() { shutdown(); }

void Runner::register_kind(std::string type, JobKind kind) {
  kinds_.insert_or_assign(std::move(type), std::move(kind));
}

void Runner::start() {
  // Listed under the lock: what is submitted meanwhile is either in the list or delivered by
  // itself.
  MutexLock status_lock(status_mutex_);
  std::vector<Job> left = registry_.list({.unfinished_or_since = Time::max()});
  std::ranges::sort(left, {}, &Job::id);
  {
    MutexLock lock(mutex_);
    HF_ASSERT(!started_);
    started_ = true;
  }
  for (const Job& job : left) {
    if (job.status == JobStatus::Paused) continue;
    log::info("taking over {} job {}, which was {}", job.type, job.id, name_of(job.status));
    deliver(job.id, job.status);
  }
  supervisor_ = std::jthread([this, stop = shutdown_.stop()] { supervise(stop); });
}

void Runner::shutdown() {
  {
    MutexLock status_lock(status_mutex_);
    shutdown_.request(StopReason::Shutdown);
    std::vector<std::shared_ptr<Run>> runs;
    {
      MutexLock lock(mutex_);
      shutting_down_ = true;
      for (const auto& [id, run] : runs_) runs.push_back(run);
    }
    for (const auto& run : runs) run->request_stop(StopReason::Shutdown);
  }
  wake();
  if (supervisor_.joinable()) supervisor_.join();
  for (;;) {
    join_ended();
    MutexLock lock(mutex_);
    if (runs_.empty() && ended_.empty()) return;
    changed_.wait(lock, [&]() HF_REQUIRES(mutex_) { return !ended_.empty(); });
  }
}

JobId Runner::submit(const NewJob& job) {
  MutexLock status_lock(status_mutex_);
  const JobId id = registry_.create(job);
  notices_of(id);
  log::info("{} job {} created", job.type, id);
  bool started = false;
  {
    MutexLock lock(mutex_);
    started = started_;
  }
  if (started) deliver(id, JobStatus::Pending);
  return id;
}

bool Runner::pause(JobId id, const std::optional<std::string>& reason) {
  return request(id, JobRequest::Pause, reason);
}

bool Runner::resume(JobId id) { return request(id, JobRequest::Resume, std::nullopt); }

bool Runner::cancel(JobId id) { return request(id, JobRequest::Cancel, std::nullopt); }

/// For a client that has cancelled its statement: a job that has ended meanwhile, or is about to
/// pause or to revert, is left at that.
void Runner::cancel_unless_ending(JobId id) {
  try {
    cancel(id);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kObjectNotInPrerequisiteState) throw;
    log::info("job {} was not canceled with its statement: {}", id, error.message());
  }
}

bool Runner::request(JobId id, JobRequest what, const std::optional<std::string>& reason) {
  MutexLock lock(status_mutex_);
  const auto status = registry_.request(id, what, reason);
  if (!status) return false;
  deliver(id, *status);
  return true;
}

/// Does what a job's new status asks for. Under status_mutex_.
void Runner::deliver(JobId id, JobStatus status) {
  const std::shared_ptr<Run> run = active_run(id);
  switch (status) {
    case JobStatus::Pending:
    case JobStatus::Running:
      enqueue(id, Queue::Forward);
      break;
    case JobStatus::Reverting:
      enqueue(id, Queue::Back);
      break;
    case JobStatus::PauseRequested:
      if (run) {
        run->request_stop(StopReason::Pause);
      } else {
        drop_from_queue(id);
        registry_.move(id, JobStatus::Paused);
      }
      break;
    case JobStatus::CancelRequested:
      if (run) {
        run->request_stop(StopReason::Cancel);
      } else {
        drop_from_queue(id);
        registry_.begin_revert(id, JobStatus::Canceled,
                               Error(sqlstate::kQueryCanceled, "job canceled by user"));
        enqueue(id, Queue::Back);
      }
      break;
    default:
      break;
  }
  wake();
}

bool Runner::takes_slot(std::string_view type) const {
  const auto found = kinds_.find(type);
  return found == kinds_.end() || found->second.slot == Slot::Takes;
}

void Runner::enqueue(JobId id, Queue queue) {
  const bool takes = takes_slot(registry_.get(id).type);
  MutexLock lock(mutex_);
  if (queue == Queue::Forward) {
    (takes ? queue_ : services_).push_back(id);
  } else {
    reverts_.push_back(id);
  }
}

void Runner::drop_from_queue(JobId id) {
  MutexLock lock(mutex_);
  std::erase(queue_, id);
  std::erase(services_, id);
  std::erase(reverts_, id);
}

std::shared_ptr<Runner::Run> Runner::active_run(JobId id) {
  MutexLock lock(mutex_);
  const auto found = runs_.find(id);
  return found != runs_.end() ? found->second : nullptr;
}

std::shared_ptr<Runner::Notices> Runner::notices_of(JobId id) {
  MutexLock lock(mutex_);
  auto& notices = notices_[id];
  if (!notices) notices = std::make_shared<Notices>();
  std::shared_ptr<Notices> result = notices;
  while (notices_.size() > kNoticesOfJobs) notices_.erase(notices_.begin());
  return result;
}

void Runner::wake() {
  {
    MutexLock lock(mutex_);
    ++version_;
  }
  changed_.notify_all();
}

void Runner::supervise(const Stop& stop) {
  const log::ThreadTag tag("jobs");
  using Clock = std::chrono::steady_clock;
  Clock::time_point next_progress = Clock::now() + options_.progress_interval;
  Clock::time_point next_forget = Clock::now();
  std::uint64_t seen = 0;
  while (!stop.requested()) {
    join_ended();
    try {
      start_ready();
      if (Clock::now() >= next_forget) {
        forget_old_jobs();
        next_forget = Clock::now() + kForgetEvery;
      }
      if (Clock::now() >= next_progress) {
        write_progress();
        next_progress = Clock::now() + options_.progress_interval;
      }
    } catch (const std::exception& error) {
      // The state file, or whatever was short, may come back; jobs stay queued until then.
      log::error("{}", error.what());
    }
    MutexLock lock(mutex_);
    changed_.wait_until(lock, stop.token(), next_progress,
                        [&]() HF_REQUIRES(mutex_) { return version_ != seen; });
    seen = version_;
  }
}

void Runner::start_ready() {
  while (const auto id = next_ready()) {
    try {
      start_or_give_up(*id);
    } catch (const std::exception&) {
      MutexLock lock(mutex_);
      // Where it came from does not matter: it goes first.
      reverts_.push_front(*id);
      throw;
    }
  }
}

/// A job whose record cannot be read can neither go on nor revert, and must not keep the others
/// from running.
void Runner::start_or_give_up(JobId id) {
  try {
    return start_run(id);
  } catch (const Error& error) {
    if (error.state() != sqlstate::kDataCorrupted &&
        error.state() != sqlstate::kFeatureNotSupported) {
      throw;
    }
    log::error("job {} cannot be run: {}", id, error.message());
    MutexLock status_lock(status_mutex_);
    const std::optional<Job> job = registry_.find(id);
    if (!job || is_terminal(job->status)) return;
    if (job->status == JobStatus::Pending) registry_.move(id, JobStatus::Running);
    if (job->status != JobStatus::Reverting) registry_.begin_revert(id, JobStatus::Failed, error);
    registry_.fail_revert(id, error);
  }
  wake();
}

/// Takes the next job off the queues that may run now.
std::optional<JobId> Runner::next_ready() {
  MutexLock lock(mutex_);
  if (!reverts_.empty()) {
    const JobId id = reverts_.front();
    reverts_.pop_front();
    return id;
  }
  if (!services_.empty()) {
    const JobId id = services_.front();
    services_.pop_front();
    return id;
  }
  const auto working = std::ranges::count_if(runs_, [](const auto& entry) {
    return !entry.second->reverting() && entry.second->takes_slot();
  });
  if (queue_.empty() || static_cast<std::size_t>(working) >= options_.concurrency) {
    return std::nullopt;
  }
  const JobId id = queue_.front();
  queue_.pop_front();
  return id;
}

void Runner::start_run(JobId id) {
  const std::shared_ptr<Notices> notices = notices_of(id);
  MutexLock status_lock(status_mutex_);
  const std::optional<Job> job = registry_.find(id);
  // A request may have come between the queue and here.
  if (!job || (job->status != JobStatus::Pending && job->status != JobStatus::Running &&
               job->status != JobStatus::Reverting)) {
    return;
  }
  if (shutdown_.stop().requested() || active_run(id)) return;
  const auto run = std::make_shared<Run>(*this, *job, notices);
  if (job->status == JobStatus::Pending) registry_.move(id, JobStatus::Running);
  registry_.count_run(id);
  {
    MutexLock lock(mutex_);
    runs_[id] = run;
  }
  try {
    run->start();
  } catch (const std::system_error&) {  // no more threads
    MutexLock lock(mutex_);
    runs_.erase(id);
    throw;
  }
  wake();
}

/// Called by the run's own thread as its last act, under status_mutex_.
void Runner::run_ended(JobId id) {
  {
    MutexLock lock(mutex_);
    const auto found = runs_.find(id);
    HF_ASSERT(found != runs_.end());
    ended_.push_back(std::move(found->second));
    runs_.erase(found);
  }
  wake();
}

void Runner::write_progress() {
  std::vector<std::shared_ptr<Run>> runs;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, run] : runs_) runs.push_back(run);
  }
  if (runs.empty()) return;
  for (const auto& run : runs) run->write_progress();
  wake();
}

void Runner::join_ended() {
  std::vector<std::shared_ptr<Run>> ended;
  {
    MutexLock lock(mutex_);
    ended.swap(ended_);
  }
  for (const auto& run : ended) run->join();
}

void Runner::forget_old_jobs() {
  const std::int64_t removed =
      registry_.remove_finished_before(registry_.clock().now() - options_.retention);
  if (removed > 0) log::info("forgot {} jobs that ended long ago", removed);
}

Outcome Runner::wait(JobId id, const Stop& stop, const WaitListener& listener) {
  const std::shared_ptr<Notices> notices = notices_of(id);
  std::size_t heard = 0;
  std::string last_status;
  for (;;) {
    std::uint64_t seen = 0;
    bool shutting_down = false;
    {
      MutexLock lock(mutex_);
      seen = version_;
      shutting_down = shutting_down_;
    }
    const Job job = registry_.get(id);
    for (const std::string& message : notices->since(heard)) {
      ++heard;
      if (listener.notice) listener.notice(message);
    }
    if (listener.progress && job.running_status != last_status && !job.running_status.empty()) {
      listener.progress(job.fraction_completed, job.running_status);
    }
    last_status = job.running_status;
    switch (job.status) {
      case JobStatus::Succeeded:
        return {.status = job.status,
                .fraction_completed = job.fraction_completed,
                .rows = job.result_rows};
      case JobStatus::Failed:
      case JobStatus::Canceled:
      case JobStatus::RevertFailed:
        throw job.error.value_or(Error(sqlstate::kInternalError, "job failed"));
      case JobStatus::Paused:
        throw paused_error(job);
      default:
        break;
    }
    if (stop.requested()) {
      if (stop.reason() == StopReason::Cancel) cancel_unless_ending(id);
      throw Stopped{stop.reason()};
    }
    if (shutting_down) throw Stopped{StopReason::Shutdown};
    MutexLock lock(mutex_);
    changed_.wait_for(lock, stop.token(), kLongestWait,
                      [&]() HF_REQUIRES(mutex_) { return version_ != seen; });
  }
}

bool Runner::wait_all(const std::vector<JobId>& ids, std::chrono::steady_clock::time_point deadline,
                      const Stop& stop) {
  for (;;) {
    std::uint64_t seen = 0;
    bool shutting_down = false;
    {
      MutexLock lock(mutex_);
      seen = version_;
      shutting_down = shutting_down_;
    }
    const std::vector<Job> jobs = registry_.list({.ids = ids});
    if (std::ranges::all_of(jobs, [](const Job& job) { return is_terminal(job.status); })) {
      return true;
    }
    stop.check();
    if (shutting_down) throw Stopped{StopReason::Shutdown};
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return false;
    MutexLock lock(mutex_);
    changed_.wait_until(lock, stop.token(), std::min(deadline, now + kLongestWait),
                        [&]() HF_REQUIRES(mutex_) { return version_ != seen; });
  }
}

}  // namespace holdfast::jobs
