#include "postgres/wal_scan.h"

#include <fmt/core.h>

#include "base/error.h"

namespace holdfast::postgres {
namespace {

// Sorts out suspects while records go by.
class Suspects final : public WalChangeVisitor {
 public:
  Suspects(const std::set<BlockKey>& all, std::set<BlockKey>& rewritten)
      : all_(all), rewritten_(rewritten) {}

  void block(const WalBlock& block) override {
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
  void from(const BlockKey& first) override {
    for (auto it = all_.lower_bound(first);
         it != all_.end() && it->relation == first.relation && it->fork == first.fork; ++it) {
      rewritten_.insert(*it);
    }
  }
  void relation(const RelationLocator& locator) override {
    for (auto it = all_.lower_bound({locator, Fork::Main, 0});
         it != all_.end() && it->relation == locator; ++it) {
      rewritten_.insert(*it);
    }
  }
  void database(std::uint32_t oid, std::uint32_t tablespace) override {
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

}  // namespace

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
        if (!suspects.empty()) visit_changes(record, range.reader.major, sorted);
      },
      stop);
  return summary;
}

}  // namespace holdfast::postgres
