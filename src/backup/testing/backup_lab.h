#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backup/backup_job.h"
#include "base/mutex.h"
#include "base/stop.h"
#include "collection/collection.h"
#include "jobs/job.h"
#include "postgres/testing/private_instance.h"
#include "storage/fault_store.h"
#include "storage/memory_store.h"

namespace holdfast::backup::testing {

/// Runs a body without the job system: what the row holds is kept here, and pause points call what
/// the test wants.
class LabJob final : public jobs::JobContext {
 public:
  LabJob(jobs::JobId id, const proto::BackupJobSpec& spec);
  LabJob(jobs::JobId id, Bytes specification) : id_(id), specification_(std::move(specification)) {}

  /// At the n-th time that the point is reached, over all attempts.
  void at(const std::string& point, std::function<void()> action, int nth = 1);
  /// Makes the attempt that reaches the point end with Stopped.
  void stop_at(const std::string& point, StopReason reason, int nth = 1);
  void request_stop(StopReason reason) { source_.request(reason); }
  /// A new StopSource, as for the next attempt.
  void next_attempt() {
    source_ = StopSource();
    stop_ = source_.stop();
  }

  jobs::JobId id() const override { return id_; }
  ByteView specification() const override { return specification_; }
  const Stop& stop() const override { return stop_; }
  std::optional<Bytes> checkpoint() const override { return checkpoint_; }
  void save_checkpoint(ByteView bytes) override { checkpoint_ = Bytes(bytes.begin(), bytes.end()); }
  void report(const jobs::Progress& progress) override;
  void set_result_rows(std::int64_t rows) override { rows_ = rows; }
  void notice(std::string_view message) override;
  void pause_point(std::string_view name) override;

  std::int64_t rows() const { return rows_; }
  const std::vector<std::string>& notices() const { return notices_; }
  jobs::Progress progress() const;
  int reached(const std::string& point) const;

 private:
  struct Action {
    std::string point;
    int nth;
    std::function<void()> run;
  };

  const jobs::JobId id_;
  Bytes specification_;
  StopSource source_;
  Stop stop_ = source_.stop();
  std::optional<Bytes> checkpoint_;
  std::int64_t rows_ = -1;
  std::vector<std::string> notices_;
  std::vector<Action> actions_;  // fixed while an attempt runs
  mutable Mutex mutex_;
  std::map<std::string, int> reached_ HF_GUARDED_BY(mutex_);
  jobs::Progress progress_ HF_GUARDED_BY(mutex_);
};

/// A server, a collection in memory with faults on demand, and jobs that back the one up into the
/// other.
class BackupLab : public StoreOpener {
 public:
  explicit BackupLab(postgres::testing::PrivateInstanceOptions options = {});

  /// Of any URI but elsewhere()'s, "memory://elsewhere", it is store().
  std::unique_ptr<storage::ObjectStore> open_store(std::string_view uri,
                                                   const storage::StoreAccess& access) override;

  postgres::testing::PrivateInstance& server() { return server_; }
  storage::FaultStore& store() { return store_; }
  storage::MemoryStore& elsewhere() { return elsewhere_; }
  proto::BackupJobSpec spec() const;
  /// One attempt.
  void resume(LabJob& job);
  void revert(LabJob& job);
  /// The finished backup of spec().
  collection::proto::Manifest manifest();
  std::vector<std::string> objects();

  /// The content of every file of the backup, each frame verified; fails the test when frames are
  /// missing, twice there or of the wrong size.
  std::map<std::string, Bytes> unpack(const collection::proto::Manifest& manifest);
  /// Lays the backup out as a data directory that recovers to its stop LSN, starts it.
  postgres::testing::PrivateInstance restore(const collection::proto::Manifest& manifest);

  std::filesystem::path relation_file(const std::string& table);
  /// Inverts one byte of a page on disk.
  void damage(const std::filesystem::path& file, std::uint32_t block);

 private:
  BackupEnvironment environment();

  postgres::testing::PrivateInstance server_;
  storage::FaultStore store_;
  storage::MemoryStore elsewhere_{"memory://elsewhere"};
  std::filesystem::path spool_;
};

}  // namespace holdfast::backup::testing
