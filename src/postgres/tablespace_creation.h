#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "io/file_system.h"
#include "postgres/timeline_path.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres {

/// A tablespace that a record makes. Replay makes its directory, and a link to it, where the server
/// that wrote the record had it; or, where the record's path is empty, makes the directory in
/// pg_tblspc itself, and uses the link that may be there already. `hidden` is the form of ours in
/// which the path is behind an empty one: PostgreSQL sees the empty one, we see both.
/// Source: PostgreSQL src/include/commands/tablespace.h (xl_tblspc_create_rec),
/// src/backend/commands/tablespace.c (create_tablespace_directories): since 13.8, 14.5 and 15.
struct TablespaceCreation {
  std::uint32_t oid = 0;
  /// Absolute, as CREATE TABLESPACE was given it; empty when it was made in place.
  std::string_view location;
  bool hidden = false;
};

/// Absent for other records. Throws kDataCorrupted when the record is too short.
std::optional<TablespaceCreation> parse_tablespace_creation(const WalRecord& record);

/// The bytes of a record that makes a tablespace with a location, with its path hidden or to be
/// seen: of the same length, its checksum made anew.
enum class TablespacePath { Hidden, Seen };
Bytes with_path(const WalRecord& creation, TablespacePath path);

/// Where the files of WAL segments are.
struct WalFiles {
  std::string directory;
  TimelinePath path;  ///< each segment is that of its timeline on it
  std::uint64_t segment_bytes = 0;
};
/// Puts `bytes` in the place of the record of the same length that begins at `start`. Not synced.
void overwrite_record(io::FileSystem& files, const WalFiles& wal, Lsn start, ByteView bytes);

}  // namespace holdfast::postgres
