#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"

namespace holdfast::jobs {

/// What a configured pause point does when it is reached.
enum class PauseAction {
  Pause,  ///< pauses the job as PAUSE JOB does
  Kill,   ///< kills the whole process with SIGKILL
  Fail,   ///< fails the job
  Retry,  ///< fails the attempt with an error that is safe to retry
  Stall   ///< waits until a file exists (or until the job is stopped)
};

struct PauseHit {
  PauseAction action = PauseAction::Pause;
  std::string file;  ///< Stall only; empty: until the job is stopped
};

/// The places where tests stop jobs, for the whole process. Thread-safe; free when none is
/// configured.
///
/// Text: comma-separated `name=action[:file][@n]`, for example
/// `backup.after_manifest=kill,backup.pack=stall:/tmp/go@3`. `@n` is the n-th time that the point
/// is reached in this process (1 by default), `@*` every time. docs/testing.md lists the points.
class PausePoints {
 public:
  PausePoints() = default;
  /// Throws kConfigFileError for text that it does not understand.
  explicit PausePoints(std::string_view text);

  bool empty() const { return points_.empty(); }
  /// Absent when nothing is to happen here this time.
  std::optional<PauseHit> reach(std::string_view name);

 private:
  struct Point {
    std::string name;
    PauseHit hit;
    std::size_t at = 1;  ///< 0: every time
    std::size_t reached = 0;
  };

  Mutex mutex_;
  // The list is fixed after construction; the counts are guarded by mutex_.
  std::vector<Point> points_;
};

}  // namespace holdfast::jobs
