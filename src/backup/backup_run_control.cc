// The control file, which a backup takes last.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>

#include "backup/backup_run.h"
#include "backup/backup_run_internal.h"
#include "backup/base_layer.h"
#include "backup/changed_databases.h"
#include "base/assert.h"
#include "base/error.h"
#include "base/log.h"
#include "io/file.h"
#include "postgres/instance.h"
#include "postgres/wal_position.h"

namespace holdfast::backup {

namespace {

namespace manifest = collection::proto;

/// A running server rewrites its control file in one write; a reader that meets it tries again.
constexpr int kControlFileTries = 20;
constexpr std::chrono::milliseconds kControlFileWait{50};
/// How long a standby may take to come as far as the layer that its backup continues.
constexpr std::chrono::minutes kLongestReplay{10};
constexpr std::chrono::seconds kReplayPause{1};

Error not_replayed(postgres::Lsn listed, const postgres::ControlFile& control) {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               "the standby has not replayed what it had received when the backup's tables were "
               "listed")
      .detail(fmt::format("Its pages are consistent from {} on instead of {}.",
                          to_string(control.min_recovery_point), to_string(listed)))
      .hint(
          "Where replay is paused, let it go on (pg_wal_replay_resume()). Where it is not, the "
          "standby has not written its pages out: let holdfast's role run CHECKPOINT there (GRANT "
          "pg_checkpoint). Try again then.");
}

Error receives_nothing() {
  return Error(sqlstate::kObjectNotInPrerequisiteState,
               "the standby receives no WAL, so the moment of its catalogs is not known")
      .hint(
          "Back up whole databases, or the cluster; or let the standby stream "
          "(primary_conninfo).");
}

}  // namespace

void BackupRun::copy_control_file() {
  for (std::size_t i = 0; i < copy_.files.size(); ++i) {
    if (copy_.files.kind(i) != manifest::FILE_KIND_CONTROL) continue;
    postgres::ControlFile control;
    const postgres::Lsn listed = list_scope_of_standby();
    Bytes content = read_control_bytes(control);
    if ((base_ && session_->from_standby()) || listed.valid()) {
      enter("waiting for the standby to replay");
      const auto deadline = std::chrono::steady_clock::now() + kLongestReplay;
      const auto has_base = [&] {
        return !base_ || has_replayed(*base_, control, standby_path(control));
      };
      while (control.min_recovery_point < listed || !has_base()) {
        if (std::chrono::steady_clock::now() >= deadline) {
          throw has_base() ? not_replayed(listed, control) : not_replayed(*base_, control);
        }
        write_out_replayed_pages();
        stop_.sleep(kReplayPause);
        content = read_control_bytes(control);
      }
    }
    store_control_file(place(), compression_of(spec_), i, content, copy_, stop_);
    consistent_from_ = control.min_recovery_point;
    consistent_time_ = control.checkpoint_time;
    return;
  }
  throw Error(sqlstate::kUndefinedFile,
              fmt::format("control file \"{}\" does not exist",
                          (environment_.data_directory / postgres::kControlFilePath).string()));
}

Bytes BackupRun::read_control_bytes(postgres::ControlFile& control) {
  const auto path = environment_.data_directory / postgres::kControlFilePath;
  for (int left = kControlFileTries - 1;; --left) {
    Bytes content =
        io::read_whole(io::FileSystem::real(), path.string(), postgres::kControlFileBytes)
            .value_or(Bytes());
    try {
      control = postgres::parse_control_file(content, path.string());
    } catch (const Error&) {
      if (left == 0) throw;
      stop_.sleep(kControlFileWait);
      continue;
    }
    // Its control file says nothing of pages' consistency any more; and the server itself refuses
    // to end such a backup.
    if (session_->from_standby() && control.state == postgres::ClusterState::InProduction) {
      throw Error(sqlstate::kObjectNotInPrerequisiteState,
                  "the standby was promoted during the backup")
          .hint("Take the backup again.");
    }
    return content;
  }
}

/// The standby may have followed its primary to a new timeline since the layer began.
postgres::TimelinePath BackupRun::standby_path(const postgres::ControlFile& control) {
  return read_timeline_path(*store_, environment_.data_directory, control_.system_identifier,
                            std::max(session_->timeline(), control.min_recovery_timeline), stop_);
}

ScopeListing BackupRun::list_end_of_scope() const {
  return list_scope(connect_options(), spec_.scope(), ScopeMoment::End, stop_);
}

/// A standby's catalogs show what is replayed. A restore of the backup ends where its control file
/// says that the pages are consistent, which may be earlier: so what is in scope is listed first,
/// and the control file must be of a later moment than the listing. That the listing behind the
/// backup's end says the same, and that no commit in between redefines any of it, makes it that of
/// the moment in between, too. Returns a position behind everything that the listing has seen; zero
/// where none is needed, which is on a primary, and for whole databases.
postgres::Lsn BackupRun::list_scope_of_standby() {
  if (!scoped() || !session_->from_standby()) return {};
  auto connection = postgres::Connection::open(connect_options(), stop_);
  const auto deadline = std::chrono::steady_clock::now() + kLongestReplay;
  while (true) {
    listed_from_ = server_position(connection, stop_);
    scope_at_end_ = list_end_of_scope();
    if (scope_at_end_.tables.empty()) return {};
    // A commit can be seen before its replay is over and counted, but not before it was received.
    if (const auto received = postgres::wal_position(connection, "", stop_)) {
      return std::max(received->flushed, server_position(connection, stop_));
    }
    if (std::chrono::steady_clock::now() >= deadline) throw receives_nothing();
    enter("waiting for the standby to receive WAL");
    stop_.sleep(kReplayPause);
  }
}

void BackupRun::require_received_wal() {
  if (scope_at_start_.tables.empty() || !session_->from_standby()) return;
  auto connection = postgres::Connection::open(connect_options(), stop_);
  if (!postgres::wal_position(connection, "", stop_)) throw receives_nothing();
}

/// What was replayed up to there is seen by whoever looks then.
void BackupRun::wait_until_replayed(postgres::Lsn position) {
  auto connection = postgres::Connection::open(connect_options(), stop_);
  const auto deadline = std::chrono::steady_clock::now() + kLongestReplay;
  while (server_position(connection, stop_) < position) {
    if (std::chrono::steady_clock::now() >= deadline) {
      throw Error(sqlstate::kObjectNotInPrerequisiteState,
                  fmt::format("the standby has not replayed WAL up to {}, where its backup ends",
                              to_string(position)));
    }
    stop_.sleep(kControlFileWait);
  }
}

/// A restartpoint also moves the control file's position on to what is replayed.
/// Source: PostgreSQL src/backend/access/transam/xlog.c (CreateRestartPoint).
void BackupRun::write_out_replayed_pages() {
  try {
    postgres::Connection::open(connect_options(), stop_).query("CHECKPOINT", stop_);
  } catch (const Error& error) {
    // Not every role that may take backups may ask for it; the server's own come, too.
    log::debug("could not ask the standby for a restartpoint: {}", error.message());
  }
}

void store_control_file(const LayerPlace& place, const collection::Compression& compression,
                        std::size_t position, ByteView content, CopyState& copy, const Stop& stop) {
  auto& file = copy.files[position];
  HF_ASSERT(content.size() <= collection::kFrameBytes);
  file.size = content.size();
  collection::FrameEncoder encoder(compression);
  collection::PackBuilder pack(2 * postgres::kControlFileBytes);
  pack.reset(copy.next_pack++, place.uuid);
  pack.add(encoder, file.id, 0, content);
  store_pack(place, pack, pack.finish(), copy.ledger, stop);
}

}  // namespace holdfast::backup
