#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "postgres/relation_path.h"
#include "postgres/wal_reader.h"

namespace holdfast::postgres {

/// Resource managers whose records holdfast looks into.
/// Source: PostgreSQL src/include/access/rmgrlist.h (13-18; the numbers never changed).
namespace rmgr {
inline constexpr std::uint8_t kXlog = 0;
inline constexpr std::uint8_t kXact = 1;
inline constexpr std::uint8_t kSmgr = 2;
inline constexpr std::uint8_t kDatabase = 4;
inline constexpr std::uint8_t kTablespace = 5;
}  // namespace rmgr

/// Heap blocks that one visibility map page covers: 4 in a byte of its 8168.
/// Source: PostgreSQL src/backend/access/heap/visibilitymap.c (HEAPBLOCKS_PER_PAGE).
inline constexpr std::uint32_t kHeapBlocksPerMapPage = 32672;

/// The parts of a commit or abort record that matter here.
struct XactRecord {
  bool commit = false;  ///< false: abort
  Time time;
  std::vector<RelationLocator> dropped;  ///< relations whose files go away with it
};
/// Absent when `record` ends no transaction. Throws kDataCorrupted when its content is impossible.
/// Source: PostgreSQL src/backend/access/rmgrdesc/xactdesc.c (ParseCommitRecord).
std::optional<XactRecord> parse_xact_record(const WalRecord& record, int major);

/// Relations of which a commit changed what the catalogs say: their own rows, columns, indexes or
/// TOAST table. Each as its database (0 when shared) and OID. Empty for all other records, and
/// where wal_level is minimal. Throws kDataCorrupted when the record's content is impossible.
/// Source: PostgreSQL src/include/storage/sinval.h (SharedInvalRelcacheMsg).
std::vector<std::pair<std::uint32_t, std::uint32_t>> redefined_relations(const WalRecord& record,
                                                                         int major);

/// When a transaction was committed, aborted or prepared, as the record of it says; absent for all
/// other records. Throws kDataCorrupted when its content is impossible.
/// Source: PostgreSQL src/include/access/xact.h (xl_xact_prepare).
std::optional<Time> transaction_time(const WalRecord& record, int major);

/// The name of a restore point (pg_create_restore_point()); absent for all other records.
/// Source: PostgreSQL src/include/access/xlog_internal.h (xl_restore_point).
std::optional<std::string_view> restore_point_name(const WalRecord& record);

/// The fork of a relation that a record makes, empty: its block 0. Absent for all other records.
/// Throws kDataCorrupted when its content is impossible.
/// Source: PostgreSQL src/include/catalog/storage_xlog.h (xl_smgr_create).
std::optional<BlockKey> parse_file_creation(const WalRecord& record);

/// What a database has in one tablespace.
struct DatabaseFiles {
  std::uint32_t database = 0;
  std::uint32_t tablespace = 0;
  friend constexpr auto operator<=>(const DatabaseFiles&, const DatabaseFiles&) = default;
};

/// A record that has replay copy a database's files; their pages are not in the WAL.
struct DatabaseCopy {
  DatabaseFiles target;
  DatabaseFiles source;
};
/// Absent for all other records. Throws kDataCorrupted when its content is impossible.
/// Source: PostgreSQL src/include/commands/dbcommands_xlog.h (xl_dbase_create_rec of 13 and 14,
/// xl_dbase_create_file_copy_rec).
std::optional<DatabaseCopy> parse_database_copy(const WalRecord& record);

/// Whether the record only carries images of pages of which nothing but hint bits changed.
/// Source: PostgreSQL src/include/catalog/pg_control.h (XLOG_FPI_FOR_HINT).
bool is_hint_image(const WalRecord& record);

/// Told what WAL records do to relation files.
class WalChangeVisitor {
 public:
  virtual ~WalChangeVisitor() = default;
  /// Replay reads or writes this block.
  virtual void block(const WalBlock& block) = 0;
  /// The fork's blocks from `first.block` on lose their content: created (0) or truncated.
  virtual void from(const BlockKey& first) = 0;
  /// All forks of the relation are removed.
  virtual void relation(const RelationLocator& relation) = 0;
  /// All that a database has in one tablespace is copied as files, or removed.
  virtual void database(std::uint32_t database, std::uint32_t tablespace) = 0;
  /// The server runs, or ran, with wal_level = minimal: changes may be missing from the WAL.
  virtual void wal_minimal() {}
};

/// Calls `visitor` for everything that `record` does to relation files. What WAL does not say, and
/// nobody can learn here:
///  - the free space map is not WAL-logged, and visibility map bits are cleared without naming the
///    page (before 17.11 and 18.6): copy these two forks whole;
///  - hint bits may change without WAL; they never matter to correctness;
///  - SLRUs, relation maps and other plain files: copy them whole;
///  - before 17, checkpoints do not carry wal_level: only its change is logged.
/// Throws kDataCorrupted when a record's content is impossible.
/// Source: PostgreSQL src/backend/postmaster/walsummarizer.c (17, 18) for the choice of records;
/// src/include/catalog/storage_xlog.h, catalog/pg_control.h, commands/dbcommands_xlog.h and
/// access/xlog_internal.h of 13 to 18 for their content.
void visit_changes(const WalRecord& record, int major, WalChangeVisitor& visitor);

}  // namespace holdfast::postgres
