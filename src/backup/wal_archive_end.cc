#include "backup/wal_archive_end.h"

#include <fmt/format.h>

namespace holdfast::backup {

ArchiveEnded archive_broken(std::string_view why, postgres::Lsn from) {
  return ArchiveEnded(
      Error(sqlstate::kObjectNotInPrerequisiteState,
            fmt::format("the WAL archive ended at {}: {}", to_string(from), why))
          .detail("Moments after that cannot be restored, and incremental backups cannot tell from "
                  "WAL what changed, until a new backup begins anew.")
          .hint("Take a full backup with BACKUP INTO; it starts a new WAL archive where it needs "
                "one."));
}

ArchiveEnded server_was_set_back(std::string_view what_tells, postgres::Lsn from) {
  return ArchiveEnded(
      Error(sqlstate::kObjectNotInPrerequisiteState,
            fmt::format("the WAL archive ended at {}: the server was set back to an earlier state "
                        "without a new timeline",
                        to_string(from)))
          .detail(fmt::format("{} A snapshot of its disk that is put back does this. What was "
                              "archived is of the history before, and stays good.",
                              what_tells))
          .hint("Take a full backup with BACKUP INTO into a new collection. To stay with this one, "
                "first give the server a new timeline: restart it with standby.signal, then run "
                "pg_promote()."));
}

bool ends_archive(const Error& error) {
  return dynamic_cast<const ArchiveEnded*>(&error) != nullptr ||
         error.state() == sqlstate::kDuplicateFile;
}

}  // namespace holdfast::backup
