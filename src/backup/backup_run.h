#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backup/backup_job.h"
#include "backup/copy.h"
#include "backup/incremental_plan.h"
#include "backup/scope.h"
#include "backup/scoped_wal.h"
#include "backup/wal_archiver.h"
#include "backup/wal_keeper.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/stop.h"
#include "collection/encryption.h"
#include "io/throttle.h"
#include "manifest.pb.h"
#include "postgres/backup_session.h"
#include "postgres/checks.h"
#include "postgres/connection.h"
#include "postgres/control_file.h"
#include "postgres/timeline_path.h"
#include "postgres/wal_scan.h"
#include "storage/object_store.h"

namespace holdfast::backup {

/// Lets LATEST name this backup, unless it names a later state of the same cluster by now: another
/// backup may have ended meanwhile, and a job may be resumed long after its manifest was written.
void point_latest_at(storage::ObjectStore& store, const collection::proto::Manifest& manifest,
                     Time now, const Stop& stop);

/// One attempt at a backup: the steps of BackupJob::resume(), in the order in which they stand
/// here, and what they hand to one another. Used by one thread; copying and WAL have their own.
class BackupRun final : private CopyObserver {
 public:
  /// `spec` was checked by check_spec().
  BackupRun(const BackupEnvironment& environment, proto::BackupJobSpec spec, jobs::JobContext& job);
  ~BackupRun() override;

  /// True when an earlier attempt wrote the manifest: only move_latest() and clean_up() are left.
  bool already_written();
  void take_lock();
  void read_checkpoint();
  /// Checks that data directory and server belong together, and makes the server keep its WAL.
  void connect();
  /// For revision history, all WAL from before the backup's start on is archived. A backup of
  /// databases or tables puts no WAL that tells what changes from its start on: the archive must.
  void begin_history();
  void start_backup();
  /// For an incremental layer: which layer it continues, and what changed since.
  void find_changes();
  /// For a backup of databases or tables: which files these have.
  void find_scope();
  void plan();
  void reuse_finished_packs();
  void copy_files();
  void list_catalog();
  /// Last of all files: on a standby it says where the backup is consistent.
  void copy_control_file();
  void stop_backup();
  void wait_for_wal();
  /// Decides whether pages with wrong checksums were torn or are corrupt, and finds the end time.
  void examine_wal();
  /// Corrects the packs' entries for files that changed while they were copied.
  void settle_changed_files();
  /// Removes what earlier attempts left: packs in no checkpoint, WAL from before this start.
  void remove_leftovers();
  void write_manifest();
  /// Makes sure that the next layer can know what changed since this one. (What its own WAL says is
  /// in the collection already.)
  void protect_wal();
  void move_latest();
  void clean_up();

  /// Keeps what is finished for the next attempt. For an attempt that ends early.
  void save_progress();

  const proto::BackupJobSpec& specification() const { return spec_; }
  /// From then on the backup is good, and what it holds is for the next layer.
  bool manifest_written() const { return written_; }

 private:
  void frame_done(std::uint64_t bytes) override;
  void pack_stored() override;

  jobs::JobId ensure_archive(WalArchiveMode mode, postgres::Lsn start);
  void protect_from(postgres::Lsn start);
  bool scoped() const { return !spec_.scope().empty(); }
  bool has_scoped_history() const { return scoped() && spec_.revision_history(); }
  void keep_scoped_history();
  void hand_over_hold();
  void mark_end();
  void store_scoped_wal(postgres::Lsn end);
  std::string find_history_gap() const;
  bool store_history(ScopedWalRequest& request);
  std::string new_wal_directory() const;
  void check_scope(const postgres::WalRange& range);
  void write_checkpoint(const Stop& stop);
  void report();
  void enter(std::string phase);
  void remember_wal(const collection::WalSegmentId& segment);
  void describe_instance();
  void describe_layer();
  Bytes read_control_bytes(postgres::ControlFile& control);
  postgres::TimelinePath standby_path(const postgres::ControlFile& control);
  void write_out_replayed_pages();
  ScopeListing list_end_of_scope() const;
  postgres::Lsn list_scope_of_standby();
  void require_received_wal();
  std::int64_t end_time_us() const;
  void wait_until_replayed(postgres::Lsn position);
  void require_sound_copies(postgres::WalRange range);
  bool has_all_files(const postgres::DatabaseFiles& files) const;
  std::optional<Time> last_commit(const postgres::WalRange& range);
  std::uint32_t highest_stored_pack(const Stop& stop) const;
  postgres::ConnectOptions connect_options() const;
  LayerPlace place() const;
  CopyRequest copy_request();

  const BackupEnvironment& environment_;
  jobs::JobContext& job_;
  const Stop& stop_;
  const proto::BackupJobSpec spec_;
  const std::filesystem::path spool_;
  const collection::CollectionKeys keys_;
  const std::unique_ptr<storage::ObjectStore> store_;
  io::Throttle throttle_;

  /// The manifest as it grows; files and packs are added when it is written.
  collection::proto::Manifest manifest_;
  std::optional<collection::proto::Manifest> earlier_;  // the checkpoint of an earlier attempt
  collection::BackupUuid uuid_{};
  bool written_ = false;

  postgres::ControlFile control_;
  postgres::ServerFacts server_;
  std::string tablespace_version_directory_;
  std::vector<std::filesystem::path> outside_files_;
  std::unique_ptr<WalKeeper> wal_;
  std::optional<postgres::Connection> connection_;  // until session_ takes it over
  std::optional<postgres::BackupSession> session_;
  std::optional<collection::proto::Manifest> base_;  // of an incremental layer
  KnownChanges changes_;
  // Of a backup of databases or tables: what the catalogs said at its start, its end, and after.
  ScopeListing scope_at_start_;
  ScopeListing scope_at_end_;
  ScopeListing scope_after_;
  // Of a standby: scope_at_end_ has seen what was committed before.
  std::optional<postgres::Lsn> listed_from_;
  CopyState copy_;
  postgres::Lsn consistent_from_;      // of a standby: where its copied control file ends recovery
  Time consistent_time_;               // no later than that, and in the backup
  std::int64_t replayed_time_us_ = 0;  // of the last commit that it had replayed at the start
  postgres::Lsn replayed_by_;          // and a position behind that commit
  postgres::Lsn read_until_;           // where the server was when the last file had been read
  bool databases_copied_ = true;       // meanwhile, as files; false: surely not
  bool reused_ = false;                // the ledger has all that earlier attempts left
  std::string phase_;                  // changes only while no worker runs

  std::atomic<std::uint64_t> bytes_done_{0};
  std::uint64_t bytes_total_ = 0;
  std::atomic<bool> checkpointing_{false};
  std::atomic<std::size_t> packs_since_checkpoint_{0};
  std::atomic<std::int64_t> last_checkpoint_us_{0};  // of the environment's clock

  Mutex row_mutex_;
  proto::BackupJobCheckpoint row_ HF_GUARDED_BY(row_mutex_);
};

}  // namespace holdfast::backup
