#include "jobs/status.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/error.h"

namespace holdfast::jobs {
namespace {

using enum JobStatus;

/// What a request leads to: a status, "nothing", or the words of the refusal.
std::string outcome(JobRequest request, JobStatus status, bool was_reverting = false) {
  try {
    const auto next =
        status_after(request, {.id = 7, .status = status, .was_reverting = was_reverting});
    return next ? std::string(name_of(*next)) : "nothing";
  } catch (const Error& error) {
    EXPECT_EQ(error.state(), sqlstate::kObjectNotInPrerequisiteState);
    return error.message();
  }
}

TEST(JobStatus, NamesAreThoseOfCockroachDbAndReadBack) {
  const std::set<std::string_view> expected = {
      "pending",  "running",   "pause-requested", "paused",    "cancel-requested",
      "canceled", "reverting", "failed",          "succeeded", "revert-failed"};
  std::set<std::string_view> names;
  for (const JobStatus status : kAllJobStatuses) {
    names.insert(name_of(status));
    EXPECT_EQ(job_status_named(name_of(status)), status);
  }
  EXPECT_EQ(names, expected);
  EXPECT_EQ(job_status_named("retry-running"), std::nullopt);
}

TEST(JobStatus, PauseFollowsTheTable) {
  const std::map<JobStatus, std::string> expected = {
      {Pending, "pause-requested"},
      {Running, "pause-requested"},
      {Reverting, "pause-requested"},
      {PauseRequested, "nothing"},
      {Paused, "nothing"},
      {CancelRequested, "job with state cancel-requested cannot be requested to be paused"},
      {Canceled, "job with state canceled cannot be requested to be paused"},
      {Failed, "job with state failed cannot be requested to be paused"},
      {Succeeded, "job with state succeeded cannot be requested to be paused"},
      {RevertFailed, "job with state revert-failed cannot be requested to be paused"}};
  for (const JobStatus status : kAllJobStatuses) {
    EXPECT_EQ(outcome(JobRequest::Pause, status), expected.at(status)) << name_of(status);
  }
}

TEST(JobStatus, ResumeFollowsTheTable) {
  const std::map<JobStatus, std::string> expected = {
      {Pending, "job with state pending cannot be resumed"},
      {Running, "nothing"},
      {Reverting, "nothing"},
      {PauseRequested, "job with state pause-requested cannot be resumed"},
      {Paused, "running"},
      {CancelRequested, "job with state cancel-requested cannot be resumed"},
      {Canceled, "job with state canceled cannot be resumed"},
      {Failed, "job with state failed cannot be resumed"},
      {Succeeded, "job with state succeeded cannot be resumed"},
      {RevertFailed, "job with state revert-failed cannot be resumed"}};
  for (const JobStatus status : kAllJobStatuses) {
    EXPECT_EQ(outcome(JobRequest::Resume, status), expected.at(status)) << name_of(status);
  }
  EXPECT_EQ(outcome(JobRequest::Resume, Paused, true), "reverting");
}

TEST(JobStatus, CancelFollowsTheTable) {
  const std::map<JobStatus, std::string> expected = {
      {Pending, "cancel-requested"},
      {Running, "cancel-requested"},
      {Paused, "cancel-requested"},
      {CancelRequested, "nothing"},
      {Canceled, "nothing"},
      {PauseRequested, "job with state pause-requested cannot be requested to be canceled"},
      {Reverting, "job with state reverting cannot be requested to be canceled"},
      {Failed, "job with state failed cannot be requested to be canceled"},
      {Succeeded, "job with state succeeded cannot be requested to be canceled"},
      {RevertFailed, "job with state revert-failed cannot be requested to be canceled"}};
  for (const JobStatus status : kAllJobStatuses) {
    EXPECT_EQ(outcome(JobRequest::Cancel, status), expected.at(status)) << name_of(status);
  }
  EXPECT_EQ(outcome(JobRequest::Cancel, Paused, true),
            "job 7 is paused and has non-nil FinalResumeError hence cannot be canceled and should "
            "be reverted");
}

TEST(JobStatus, TheRunnerMakesTheseMovesAndNoOthers) {
  const std::set<std::pair<JobStatus, JobStatus>> allowed = {
      {Pending, Running},           {Running, Succeeded},
      {Running, Reverting},         {Running, Paused},
      {PauseRequested, Paused},     {PauseRequested, Succeeded},
      {PauseRequested, Reverting},  {PauseRequested, Canceled},
      {PauseRequested, Failed},     {PauseRequested, RevertFailed},
      {CancelRequested, Succeeded}, {CancelRequested, Reverting},
      {Reverting, Canceled},        {Reverting, Failed},
      {Reverting, RevertFailed}};
  for (const JobStatus from : kAllJobStatuses) {
    for (const JobStatus to : kAllJobStatuses) {
      EXPECT_EQ(may_move(from, to), allowed.contains({from, to}))
          << name_of(from) << " to " << name_of(to);
    }
  }
}

TEST(JobStatus, NothingLeavesAnEnd) {
  for (const JobStatus from : kAllJobStatuses) {
    if (!is_terminal(from)) continue;
    for (const JobStatus to : kAllJobStatuses) EXPECT_FALSE(may_move(from, to));
  }
  EXPECT_TRUE(is_terminal(Canceled) && is_terminal(Failed) && is_terminal(Succeeded) &&
              is_terminal(RevertFailed));
  EXPECT_FALSE(is_terminal(Paused) || is_terminal(Reverting) || is_terminal(Pending));
}

}  // namespace
}  // namespace holdfast::jobs
