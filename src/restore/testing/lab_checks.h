#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "jobs/job.h"
#include "restore/testing/restore_lab.h"

namespace holdfast::restore::testing {

// What the tests of restores of clusters share.

inline constexpr jobs::JobId kJob = 42;

/// The pause points of a restore in their order: until the directory is filled, and in place.
inline constexpr const char* kFillPoints[] = {
    "restore.after_checks", "restore.after_create",         "restore.copy",
    "restore.after_copy",   "restore.after_recovery_files", "restore.after_sync",
    "restore.after_control"};
inline constexpr const char* kSwitchPoints[] = {"restore.before_stop",      "restore.after_stop",
                                                "restore.after_move_aside", "restore.after_move_in",
                                                "restore.after_start",      "restore.after_ready"};

/// The Error that `action` must throw.
inline Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(sqlstate::kInternalError, "nothing was thrown");
}

/// Ends the process right behind the job's last phase, and has the next one go on, or turn back.
inline void go_on_when_complete(RestoreLab& lab, LabJob& job, bool canceled) {
  job.kill_after_save(
      [](const auto& saved) { return saved.phase() == proto::RESTORE_PHASE_COMPLETE; });
  EXPECT_THROW(lab.resume(job), Killed);
  job.next_attempt();
  if (canceled) {
    lab.revert(job);
  } else {
    lab.resume(job);
  }
}

inline bool exists(const std::string& path) { return std::filesystem::exists(path); }

/// Makes the directories above it, too.
inline void write(const std::string& path, std::string_view text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace holdfast::restore::testing
