#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/stop.h"

namespace holdfast::jobs {

/// Positive, unique over restarts and nodes, increasing with creation time. Shown to users as a
/// 64-bit integer.
using JobId = std::int64_t;

/// What SHOW JOBS says about a running job.
struct Progress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;  ///< 0 while unknown
  std::string phase;              ///< "copying files", "waiting for WAL"
};

/// What a job body may ask of the job that it works for. Used from any of the body's threads.
class JobContext {
 public:
  virtual ~JobContext() = default;
  virtual JobId id() const = 0;
  /// The specification that the job was created with (a serialized protobuf of the body's own).
  virtual ByteView specification() const = 0;
  virtual const Stop& stop() const = 0;

  /// What save_checkpoint() stored last, in this process or an earlier one.
  virtual std::optional<Bytes> checkpoint() const = 0;
  /// Durable when it returns.
  virtual void save_checkpoint(ByteView bytes) = 0;

  /// Cheap; may be called for every frame. Rate, ETA and fraction are derived, and the row is
  /// written about once a second.
  virtual void report(const Progress& progress) = 0;
  /// The outcome's figures for the BACKUP / RESTORE result row; call before returning from
  /// resume().
  virtual void set_result_rows(std::int64_t rows) = 0;
  /// The bytes that a backup has stored, or that a restore has written, for the history.
  virtual void set_result_bytes(std::int64_t) {}
  /// Tells the waiting session (as a NOTICE) and the log.
  virtual void notice(std::string_view message) = 0;

  /// A named place where tests stop, fail or kill the job (`holdfast start --pause-point`,
  /// docs/testing.md). Elsewhere free.
  virtual void pause_point(std::string_view name) = 0;
};

/// The work of one kind of job.
class JobBody {
 public:
  virtual ~JobBody() = default;
  /// Runs from the last checkpoint to the end; may be called many times for one job. Returning
  /// means success. Throws Stopped when asked to stop, Error when the job cannot go on.
  virtual void resume(JobContext& job) = 0;
  /// Removes what resume() left behind, from the checkpoint alone: it may run in a later process.
  /// Safe to repeat.
  virtual void revert(JobContext& job) = 0;
};

}  // namespace holdfast::jobs
