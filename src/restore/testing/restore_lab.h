#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/mutex.h"
#include "collection/collection.h"
#include "io/fault_file_system.h"
#include "jobs/job.h"
#include "restore/restore_job.h"
#include "storage/fault_store.h"

namespace holdfast::restore::testing {

/// A process that was killed: nothing but the test catches it.
struct Killed {};

/// Runs a body without the job system: the row is kept here, pause points do what the test wants.
class LabJob final : public jobs::JobContext {
 public:
  LabJob(jobs::JobId id, const proto::RestoreJobSpec& spec);

  /// The attempt that reaches the point ends as if the process were killed there.
  void kill_at(std::string point) { kill_at_ = std::move(point); }
  /// The same right after a checkpoint was saved for which this is true.
  void kill_after_save(std::function<bool(const proto::RestoreCheckpoint&)> hit) {
    kill_after_save_ = std::move(hit);
  }
  void stop_at(std::string point, StopReason reason) {
    stop_at_ = std::move(point);
    stop_reason_ = reason;
  }
  /// As a later process: no requests, no pause points.
  void next_attempt();

  jobs::JobId id() const override { return id_; }
  ByteView specification() const override { return specification_; }
  const Stop& stop() const override { return stop_; }
  std::optional<Bytes> checkpoint() const override { return checkpoint_; }
  void save_checkpoint(ByteView bytes) override;
  void report(const jobs::Progress& progress) override;
  void set_result_rows(std::int64_t rows) override { rows_ = rows; }
  void notice(std::string_view message) override { notices_.emplace_back(message); }
  void pause_point(std::string_view name) override;

  std::int64_t rows() const { return rows_; }
  const std::vector<std::string>& notices() const { return notices_; }
  jobs::Progress progress() const;
  bool reached(const std::string& point) const;

 private:
  const jobs::JobId id_;
  Bytes specification_;
  StopSource source_;
  Stop stop_ = source_.stop();
  std::optional<Bytes> checkpoint_;
  std::int64_t rows_ = -1;
  std::vector<std::string> notices_;
  std::string kill_at_;
  std::function<bool(const proto::RestoreCheckpoint&)> kill_after_save_;
  std::string stop_at_;
  StopReason stop_reason_ = StopReason::None;
  mutable Mutex mutex_;
  std::map<std::string, int> reached_ HF_GUARDED_BY(mutex_);
  jobs::Progress progress_ HF_GUARDED_BY(mutex_);
};

/// An instance that is nothing but a directory and a flag.
class LabInstance final : public TargetInstance {
 public:
  explicit LabInstance(std::string data_directory) : data_directory_(std::move(data_directory)) {}

  std::string data_directory() const override { return data_directory_; }
  int binaries_major_version() override { return major; }
  bool running() override { return runs; }
  void stop(const Stop& stop) override;
  void start(const Stop& stop) override;
  std::optional<std::string> wait_ready(std::chrono::milliseconds timeout,
                                        const Stop& stop) override;
  std::vector<std::string> user_objects(const Stop& stop) override;

  int major = 15;
  bool runs = false;
  std::vector<std::string> objects;
  /// Starts fail on a directory that has this file.
  std::string fails_on;
  /// What wait_ready() returns.
  std::optional<std::string> login_refused;
  int starts = 0;
  int stops = 0;

 private:
  const std::string data_directory_;
};

/// A directory, a make-believe backup of a small cluster in a store with faults on demand, and jobs
/// that restore it.
class RestoreLab {
 public:
  RestoreLab();
  ~RestoreLab();
  RestoreLab(const RestoreLab&) = delete;
  RestoreLab& operator=(const RestoreLab&) = delete;

  const std::string& root() const { return root_; }
  std::string path(const std::string& name) const { return root_ + "/" + name; }
  LabInstance& instance() { return instance_; }
  storage::FaultStore& store() { return store_; }
  io::FaultFileSystem& files() { return files_; }
  collection::proto::Manifest& manifest() { return manifest_; }
  /// The content of each file of the backup by its path in the manifest.
  const std::map<std::string, Bytes>& content() const { return content_; }
  /// Adds an incremental layer, which manifest(), content() and the specifications are of from then
  /// on: relation files changed in blocks here and there, grown, cut, dropped, made anew, and
  /// another configuration.
  void add_incremental(unsigned seed);
  /// Replaces the manifest on storage by manifest().
  void publish();
  std::string pack(std::uint32_t number) const;

  /// Into the directory `name` of the lab, its tablespace into "space".
  proto::RestoreJobSpec elsewhere(const std::string& name);
  /// Into the instance.
  proto::RestoreJobSpec in_place();
  void resume(LabJob& job);
  void revert(LabJob& job);

  /// Jobs that are said to be at work.
  std::set<jobs::JobId> unfinished;

  /// Makes a small cluster directory that stands for a live one.
  void make_live();
  /// Fails the test unless `directory` is the restored backup, complete and without leftovers.
  void expect_restored(const std::string& directory, const std::string& tablespace);
  /// The names in a directory of the lab, sorted.
  std::vector<std::string> names(const std::string& directory) const;

 private:
  void make_backup();
  void add_file(const std::string& path, Bytes content, collection::proto::FileKind kind);

  std::string root_;
  std::string directory_;  ///< of the newest layer
  storage::FaultStore store_;
  io::FaultFileSystem files_;
  LabInstance instance_;
  collection::proto::Manifest manifest_;
  std::map<std::string, Bytes> content_;
};

}  // namespace holdfast::restore::testing
