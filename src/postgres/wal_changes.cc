#include "postgres/wal_changes.h"

#include <fmt/core.h>

#include "base/error.h"
#include "postgres/wal_format_internal.h"

namespace holdfast::postgres {
namespace {

// Source: PostgreSQL src/include/access/xact.h.
constexpr std::uint8_t kXactCommit = 0x00;
constexpr std::uint8_t kXactAbort = 0x20;
constexpr std::uint8_t kXactCommitPrepared = 0x30;
constexpr std::uint8_t kXactAbortPrepared = 0x40;
constexpr std::uint8_t kXactHasInfo = 0x80;
/// Offset of prepared_at, behind magic, length, transaction and database.
constexpr std::size_t kPreparedAt = 16;
constexpr std::uint32_t kXinfoHasDatabase = 1U << 0;
constexpr std::uint32_t kXinfoHasSubxacts = 1U << 1;
constexpr std::uint32_t kXinfoHasRelations = 1U << 2;
constexpr std::uint32_t kXinfoHasInvalidations = 1U << 3;
constexpr std::uint32_t kXinfoHasDroppedStatistics = 1U << 8;  // since 15
constexpr std::uint64_t kDroppedRelationBytes = 12;

// Source: PostgreSQL src/include/storage/sinval.h: an id of one byte, padding, database, relation.
constexpr std::uint32_t kRelationCache = 0xFE;  // -2

// Source: PostgreSQL src/include/catalog/storage_xlog.h.
constexpr std::uint8_t kSmgrCreate = 0x10;
constexpr std::uint8_t kSmgrTruncate = 0x20;
constexpr std::uint32_t kTruncateHeap = 0x1;
constexpr std::uint32_t kTruncateVisibilityMap = 0x2;
constexpr std::uint32_t kTruncateFreeSpaceMap = 0x4;

// Source: PostgreSQL src/include/catalog/pg_control.h; where wal_level lies is from there (struct
// CheckPoint) and from access/xlog_internal.h (xl_parameter_change, xl_end_of_recovery).
constexpr std::uint8_t kCheckpointShutdown = 0x00;
constexpr std::uint8_t kCheckpointOnline = 0x10;
constexpr std::uint8_t kParameterChange = 0x60;
constexpr std::uint8_t kRestorePoint = 0x70;
constexpr std::uint8_t kEndOfRecovery = 0x90;
constexpr std::uint8_t kImageForHint = 0xA0;
constexpr std::uint8_t kCheckpointRedo = 0xE0;
constexpr std::size_t kWalLevelInCheckpoint = 20;
constexpr std::size_t kWalLevelInParameterChange = 20;
constexpr std::size_t kWalLevelInEndOfRecovery = 16;
constexpr std::size_t kWalLevelInCheckpointRedo = 0;
constexpr std::uint32_t kWalLevelMinimal = 0;

// PostgreSQL counts from 2000-01-01. Source: src/include/datatype/timestamp.h.
constexpr std::chrono::seconds kPostgresEpoch{946'684'800};

// The same number for XLOG_DBASE_CREATE (13, 14) and XLOG_DBASE_CREATE_FILE_COPY (from 15 on).
// Source: PostgreSQL src/include/commands/dbcommands_xlog.h.
constexpr std::uint8_t kDatabaseCopy = 0x00;

/// Takes fields off the front of a record's main data.
class Fields {
 public:
  Fields(ByteView data, std::string_view record) : data_(data), record_(record) {}

  std::uint32_t take32() {
    skip(sizeof(std::uint32_t));
    return load<std::uint32_t>(taken_, 0);
  }
  RelationLocator take_locator() {
    RelationLocator locator;
    locator.tablespace = take32();
    locator.database = take32();
    locator.relation = take32();
    return locator;
  }
  void skip(std::uint64_t bytes) {
    if (bytes > data_.size()) {
      throw Error(sqlstate::kDataCorrupted, fmt::format("{} record is too short", record_));
    }
    taken_ = data_.first(bytes);
    data_ = data_.subspan(bytes);
  }

 private:
  ByteView data_;
  ByteView taken_;
  std::string_view record_;
};

void visit_storage(const WalRecord& record, WalChangeVisitor& visitor) {
  Fields fields(record.main_data, "storage");
  const std::uint8_t operation = record.info & kInfoOwnBits;
  if (const auto created = parse_file_creation(record)) {
    visitor.from(*created);
  } else if (operation == kSmgrTruncate) {
    const auto block = fields.take32();
    const auto locator = fields.take_locator();
    const auto flags = fields.take32();
    if ((flags & kTruncateHeap) != 0) visitor.from({locator, Fork::Main, block});
    if ((flags & kTruncateVisibilityMap) != 0) {
      // The page that the cut goes through loses its tail.
      visitor.from({locator, Fork::VisibilityMap, block / kHeapBlocksPerMapPage});
    }
    if ((flags & kTruncateFreeSpaceMap) != 0) visitor.from({locator, Fork::FreeSpaceMap, 0});
  }
}

// Copying, logging and dropping a database: all begin with its OID and a tablespace's, or a list of
// tablespaces for a drop.
void visit_database(const WalRecord& record, int major, WalChangeVisitor& visitor) {
  Fields fields(record.main_data, "database");
  const auto database = fields.take32();
  const bool drop = (record.info & kInfoOwnBits) == version_facts(major).dbase_drop;
  const auto tablespaces = drop ? fields.take32() : 1;
  for (std::uint32_t i = 0; i < tablespaces; ++i) visitor.database(database, fields.take32());
}

// Where the record's main data has wal_level; absent when it has none.
std::optional<std::size_t> wal_level_offset(std::uint8_t operation, int major) {
  constexpr int kFirstWithWalLevelInCheckpoints = 17;
  if (operation == kParameterChange) return kWalLevelInParameterChange;
  if (major < kFirstWithWalLevelInCheckpoints) return std::nullopt;
  switch (operation) {
    case kCheckpointShutdown:
    case kCheckpointOnline:
      return kWalLevelInCheckpoint;
    case kEndOfRecovery:
      return kWalLevelInEndOfRecovery;
    case kCheckpointRedo:
      return kWalLevelInCheckpointRedo;
    default:
      return std::nullopt;
  }
}

void visit_xlog(const WalRecord& record, int major, WalChangeVisitor& visitor) {
  const auto offset = wal_level_offset(record.info & kInfoOwnBits, major);
  if (!offset) return;
  Fields fields(record.main_data, "checkpoint or parameter");
  fields.skip(*offset);
  if (fields.take32() == kWalLevelMinimal) visitor.wal_minimal();
}

}  // namespace

std::optional<BlockKey> parse_file_creation(const WalRecord& record) {
  if (record.resource_manager != rmgr::kSmgr || (record.info & kInfoOwnBits) != kSmgrCreate) {
    return std::nullopt;
  }
  Fields fields(record.main_data, "storage");
  const auto locator = fields.take_locator();
  const auto fork = fields.take32();
  if (fork > static_cast<std::uint32_t>(Fork::Init)) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("storage record names fork {}", fork));
  }
  return BlockKey{locator, static_cast<Fork>(fork), 0};
}

std::optional<XactRecord> parse_xact_record(const WalRecord& record, int major) {
  version_facts(major);  // the layout is the same in all supported versions
  if (record.resource_manager != rmgr::kXact) return std::nullopt;
  const std::uint8_t operation = record.info & kXactOperation;
  XactRecord out;
  out.commit = operation == kXactCommit || operation == kXactCommitPrepared;
  if (!out.commit && operation != kXactAbort && operation != kXactAbortPrepared) {
    return std::nullopt;
  }
  Fields fields(record.main_data, "transaction");
  fields.skip(sizeof(std::int64_t));
  out.time =
      Time(kPostgresEpoch) + std::chrono::microseconds(load<std::int64_t>(record.main_data, 0));
  if ((record.info & kXactHasInfo) == 0) return out;
  const auto xinfo = fields.take32();
  if ((xinfo & kXinfoHasDatabase) != 0) fields.skip(8);
  if ((xinfo & kXinfoHasSubxacts) != 0) fields.skip(std::uint64_t{fields.take32()} * 4);
  if ((xinfo & kXinfoHasRelations) != 0) {
    const auto count = fields.take32();
    for (std::uint32_t i = 0; i < count; ++i) out.dropped.push_back(fields.take_locator());
  }
  return out;
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> redefined_relations(const WalRecord& record,
                                                                         int major) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> relations;
  const std::uint8_t operation = record.info & kXactOperation;
  const bool commit = record.resource_manager == rmgr::kXact &&
                      (operation == kXactCommit || operation == kXactCommitPrepared);
  if (!commit || (record.info & kXactHasInfo) == 0) return relations;
  Fields fields(record.main_data, "transaction");
  fields.skip(sizeof(std::int64_t));
  const auto xinfo = fields.take32();
  const auto skip_list = [&](std::uint32_t flag, std::uint64_t bytes) {
    if ((xinfo & flag) != 0) fields.skip(fields.take32() * bytes);
  };
  if ((xinfo & kXinfoHasDatabase) != 0) fields.skip(8);
  skip_list(kXinfoHasSubxacts, 4);
  skip_list(kXinfoHasRelations, kDroppedRelationBytes);
  // Kind, database, and an identifier that has 64 bits since 18.
  skip_list(kXinfoHasDroppedStatistics, major >= 18 ? 16 : 12);
  if ((xinfo & kXinfoHasInvalidations) == 0) return relations;
  for (auto left = fields.take32(); left > 0; --left) {
    const auto id = fields.take32() & 0xFF;
    const auto database = fields.take32();
    const auto relation = fields.take32();
    fields.skip(4);
    if (id == kRelationCache) relations.emplace_back(database, relation);
  }
  return relations;
}

std::optional<Time> transaction_time(const WalRecord& record, int major) {
  if (const auto ended = parse_xact_record(record, major)) return ended->time;
  if (record.resource_manager != rmgr::kXact || (record.info & kXactOperation) != kXactPrepare) {
    return std::nullopt;
  }
  Fields fields(record.main_data, "prepared transaction");
  fields.skip(kPreparedAt + sizeof(std::int64_t));
  return Time(kPostgresEpoch) +
         std::chrono::microseconds(load<std::int64_t>(record.main_data, kPreparedAt));
}

std::optional<std::string_view> restore_point_name(const WalRecord& record) {
  // A time, then the name in an array of fixed length.
  if (record.resource_manager != rmgr::kXlog || (record.info & kInfoOwnBits) != kRestorePoint ||
      record.main_data.size() <= sizeof(std::int64_t)) {
    return std::nullopt;
  }
  const std::string_view name = as_text(record.main_data.subspan(sizeof(std::int64_t)));
  return name.substr(0, name.find('\0'));
}

std::optional<DatabaseCopy> parse_database_copy(const WalRecord& record) {
  if (record.resource_manager != rmgr::kDatabase || (record.info & kInfoOwnBits) != kDatabaseCopy) {
    return std::nullopt;
  }
  Fields fields(record.main_data, "database");
  DatabaseCopy copy;
  copy.target.database = fields.take32();
  copy.target.tablespace = fields.take32();
  copy.source.database = fields.take32();
  copy.source.tablespace = fields.take32();
  return copy;
}

bool is_hint_image(const WalRecord& record) {
  return record.resource_manager == rmgr::kXlog && (record.info & kInfoOwnBits) == kImageForHint;
}

void visit_changes(const WalRecord& record, int major, WalChangeVisitor& visitor) {
  for (const auto& block : record.blocks) visitor.block(block);
  switch (record.resource_manager) {
    case rmgr::kXlog:
      visit_xlog(record, major, visitor);
      break;
    case rmgr::kXact:
      // Without this bit a commit drops nothing; most commits have no need of it.
      if ((record.info & kXactHasInfo) == 0) break;
      if (const auto xact = parse_xact_record(record, major)) {
        for (const auto& relation : xact->dropped) visitor.relation(relation);
      }
      break;
    case rmgr::kSmgr:
      visit_storage(record, visitor);
      break;
    case rmgr::kDatabase:
      visit_database(record, major, visitor);
      break;
    default:
      break;
  }
}

}  // namespace holdfast::postgres
