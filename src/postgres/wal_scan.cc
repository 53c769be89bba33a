#include "postgres/wal_scan.h"

#include <fmt/core.h>

#include "base/error.h"

namespace holdfast::postgres {
namespace {

constexpr std::uint8_t kInfoOwnBits = 0xF0;  // the rest of xl_info belongs to the WAL machinery

// Source: PostgreSQL src/include/access/xact.h.
constexpr std::uint8_t kXactOperation = 0x70;
constexpr std::uint8_t kXactCommit = 0x00;
constexpr std::uint8_t kXactAbort = 0x20;
constexpr std::uint8_t kXactCommitPrepared = 0x30;
constexpr std::uint8_t kXactAbortPrepared = 0x40;
constexpr std::uint8_t kXactHasInfo = 0x80;
constexpr std::uint32_t kXinfoHasDatabase = 1U << 0;
constexpr std::uint32_t kXinfoHasSubxacts = 1U << 1;
constexpr std::uint32_t kXinfoHasRelations = 1U << 2;

// Source: PostgreSQL src/include/catalog/storage_xlog.h.
constexpr std::uint8_t kSmgrCreate = 0x10;
constexpr std::uint8_t kSmgrTruncate = 0x20;

// PostgreSQL counts from 2000-01-01. Source: src/include/datatype/timestamp.h.
constexpr std::chrono::seconds kPostgresEpoch{946'684'800};

// Heap blocks that one visibility map page covers: 4 in a byte of its 8168.
// Source: PostgreSQL src/backend/access/heap/visibilitymap.c (HEAPBLOCKS_PER_PAGE).
constexpr std::uint32_t kHeapBlocksPerMapPage = 32672;

std::uint32_t take32(ByteView& data, std::string_view record) {
  if (data.size() < sizeof(std::uint32_t)) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("{} record is too short", record));
  }
  const auto value = load<std::uint32_t>(data, 0);
  data = data.subspan(sizeof value);
  return value;
}

RelationLocator take_locator(ByteView& data, std::string_view record) {
  RelationLocator locator;
  locator.tablespace = take32(data, record);
  locator.database = take32(data, record);
  locator.relation = take32(data, record);
  return locator;
}

ByteView skip(ByteView data, std::uint64_t bytes, std::string_view record) {
  if (bytes > data.size()) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("{} record is too short", record));
  }
  return data.subspan(bytes);
}

// Sorts out suspects while records go by.
class Suspects {
 public:
  Suspects(const std::set<BlockKey>& all, std::set<BlockKey>& rewritten)
      : all_(all), rewritten_(rewritten) {}

  void block(const WalBlock& block) {
    const BlockKey& key = block.key;
    const bool map_fork = key.fork == Fork::VisibilityMap || key.fork == Fork::FreeSpaceMap;
    // A change of what the page held does not make a damaged page whole, and a block may be named
    // just to be locked. What PostgreSQL wrote during the backup has its image in the WAL, because
    // full_page_writes is in force. (Both maps are repaired by replay whatever they hold.)
    const bool whole = block.will_init || (block.has_image && block.image_applies);
    if ((whole || map_fork) && all_.contains(key)) rewritten_.insert(key);
    if (key.fork != Fork::Main) return;
    // Records of heap changes clear visibility bits and note free space without a reference to
    // those pages (before 17.11 and 18.6 for the former, always for the latter).
    const BlockKey map{key.relation, Fork::VisibilityMap, key.block / kHeapBlocksPerMapPage};
    if (all_.contains(map)) rewritten_.insert(map);
    from({key.relation, Fork::FreeSpaceMap, 0});
  }
  /// All blocks of one fork from `first` on.
  void from(const BlockKey& first) {
    for (auto it = all_.lower_bound(first);
         it != all_.end() && it->relation == first.relation && it->fork == first.fork; ++it) {
      rewritten_.insert(*it);
    }
  }
  void relation(const RelationLocator& locator) {
    for (auto it = all_.lower_bound({locator, Fork::Main, 0});
         it != all_.end() && it->relation == locator; ++it) {
      rewritten_.insert(*it);
    }
  }
  /// What a database has in one tablespace.
  void database(std::uint32_t oid, std::uint32_t tablespace) {
    for (auto it = all_.lower_bound({{tablespace, oid, 0}, Fork::Main, 0});
         it != all_.end() && it->relation.tablespace == tablespace && it->relation.database == oid;
         ++it) {
      rewritten_.insert(*it);
    }
  }

 private:
  const std::set<BlockKey>& all_;
  std::set<BlockKey>& rewritten_;
};

void look_at_storage(const WalRecord& record, Suspects& suspects) {
  constexpr std::string_view kRecord = "storage";
  ByteView data = record.main_data;
  const std::uint8_t operation = record.info & kInfoOwnBits;
  if (operation == kSmgrCreate) {
    const auto locator = take_locator(data, kRecord);
    const auto fork = take32(data, kRecord);
    if (fork <= static_cast<std::uint32_t>(Fork::Init)) {
      suspects.from({locator, static_cast<Fork>(fork), 0});
    }
  } else if (operation == kSmgrTruncate) {
    const auto block = take32(data, kRecord);
    const auto locator = take_locator(data, kRecord);
    suspects.from({locator, Fork::Main, block});
    suspects.from({locator, Fork::VisibilityMap, block / kHeapBlocksPerMapPage});
    suspects.from({locator, Fork::FreeSpaceMap, 0});
  }
}

// Creating, copying, moving and dropping a database rewrites all its files in a tablespace.
// Source: PostgreSQL src/include/commands/dbcommands_xlog.h, 13 to 18.
void look_at_database(const WalRecord& record, int major, Suspects& suspects) {
  constexpr std::string_view kRecord = "database";
  ByteView data = record.main_data;
  const auto database = take32(data, kRecord);
  const bool drop = (record.info & kInfoOwnBits) == version_facts(major).dbase_drop;
  const auto tablespaces = drop ? take32(data, kRecord) : 1;
  for (std::uint32_t i = 0; i < tablespaces; ++i) {
    suspects.database(database, take32(data, kRecord));
  }
}

}  // namespace

std::optional<XactRecord> parse_xact_record(const WalRecord& record, int major) {
  constexpr std::string_view kRecord = "transaction";
  version_facts(major);  // the layout is the same in all supported versions
  if (record.resource_manager != rmgr::kXact) return std::nullopt;
  const std::uint8_t operation = record.info & kXactOperation;
  XactRecord out;
  out.commit = operation == kXactCommit || operation == kXactCommitPrepared;
  if (!out.commit && operation != kXactAbort && operation != kXactAbortPrepared) {
    return std::nullopt;
  }
  ByteView data = skip(record.main_data, sizeof(std::int64_t), kRecord);
  out.time =
      Time(kPostgresEpoch) + std::chrono::microseconds(load<std::int64_t>(record.main_data, 0));
  if ((record.info & kXactHasInfo) == 0) return out;
  const auto xinfo = take32(data, kRecord);
  if ((xinfo & kXinfoHasDatabase) != 0) data = skip(data, 8, kRecord);
  if ((xinfo & kXinfoHasSubxacts) != 0) {
    const std::uint64_t count = take32(data, kRecord);
    data = skip(data, count * 4, kRecord);
  }
  if ((xinfo & kXinfoHasRelations) != 0) {
    const auto count = take32(data, kRecord);
    for (std::uint32_t i = 0; i < count; ++i) out.dropped.push_back(take_locator(data, kRecord));
  }
  return out;
}

void scan_wal(const WalRange& range, const WalInput& input,
              const std::function<void(const WalRecord&)>& visit, const Stop& stop) {
  WalReader reader(range.reader, input);
  while (reader.position() < range.end) {
    stop.check();
    const WalRecord* record = reader.next();
    if (record == nullptr) {
      throw Error(sqlstate::kDataCorrupted,
                  fmt::format("WAL between {} and {} is incomplete or invalid",
                              to_string(range.reader.start), to_string(range.end)))
          .detail(fmt::format("Reading ended at {}: {}.", to_string(reader.position()),
                              reader.end_reason()));
    }
    // Past the end when only a page header lay between.
    if (record->start >= range.end) return;
    visit(*record);
  }
}

BackupWalSummary summarize_backup_wal(const WalRange& range, const WalInput& input,
                                      const std::set<BlockKey>& suspects, const Stop& stop) {
  BackupWalSummary summary;
  Suspects sorted(suspects, summary.rewritten);
  scan_wal(
      range, input,
      [&](const WalRecord& record) {
        ++summary.records;
        const auto xact = parse_xact_record(record, range.reader.major);
        if (xact && xact->commit) summary.last_commit_time = xact->time;
        if (suspects.empty()) return;
        for (const auto& block : record.blocks) sorted.block(block);
        if (xact) {
          for (const auto& relation : xact->dropped) sorted.relation(relation);
        }
        if (record.resource_manager == rmgr::kSmgr) look_at_storage(record, sorted);
        if (record.resource_manager == rmgr::kDatabase) {
          look_at_database(record, range.reader.major, sorted);
        }
      },
      stop);
  return summary;
}

}  // namespace holdfast::postgres
