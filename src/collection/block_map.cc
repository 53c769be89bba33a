#include "collection/block_map.h"

#include <algorithm>
#include <vector>

#include "base/assert.h"

namespace holdfast::collection {

using postgres::BlockKey;
using postgres::Fork;
using postgres::RelationLocator;

namespace {

constexpr bool is_mapped(Fork fork) { return fork == Fork::Main || fork == Fork::Init; }
constexpr Fork kMappedForks[] = {Fork::Main, Fork::Init};

const ForkChanges& all_changed() {
  static const ForkChanges all{.limit = 0, .blocks = {}};
  return all;
}

}  // namespace

void ForkChanges::change_from(std::uint32_t block) {
  if (block >= limit) return;
  limit = block;
  blocks.erase_from(block);
}

std::size_t BlockMap::Hash::operator()(const ForkLocator& locator) const {
  // Fibonacci hashing: relation numbers are mostly consecutive.
  constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15ULL;
  const std::uint64_t place =
      std::uint64_t{locator.relation.tablespace} << 32 | locator.relation.database;
  const std::uint64_t file =
      std::uint64_t{locator.relation.relation} << 2 | static_cast<std::uint64_t>(locator.fork);
  return static_cast<std::size_t>((place * kGolden ^ file) * kGolden >> 16);
}

bool BlockMap::whole_database(std::uint32_t database, std::uint32_t tablespace) const {
  return databases_.contains({database, tablespace});
}

const ForkChanges* BlockMap::find(const RelationLocator& relation, Fork fork) const {
  HF_ASSERT(is_mapped(fork));
  if (whole_database(relation.database, relation.tablespace)) return &all_changed();
  const auto found = forks_.find({relation, fork});
  return found != forks_.end() ? &found->second : nullptr;
}

void BlockMap::for_each(
    const std::function<void(const ForkLocator&, const ForkChanges&)>& visit) const {
  std::vector<const std::pair<const ForkLocator, ForkChanges>*> sorted;
  for (const auto& entry : forks_) {
    const RelationLocator& relation = entry.first.relation;
    if (!whole_database(relation.database, relation.tablespace)) sorted.push_back(&entry);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const auto* left, const auto* right) { return left->first < right->first; });
  for (const auto* entry : sorted) visit(entry->first, entry->second);
}

std::uint64_t BlockMap::changed_blocks() const {
  std::uint64_t blocks = 0;
  for (const auto& [locator, fork] : forks_) blocks += fork.blocks.size();
  return blocks;
}

ForkChanges& BlockMap::changes(const ForkLocator& locator) {
  Recent::Entry& recent = recent_.place_of(locator);
  if (recent.changes == nullptr || recent.locator != locator) {
    recent = {.locator = locator, .changes = &forks_[locator]};
  }
  return *recent.changes;
}

void BlockMap::add_record(const postgres::WalRecord& record) {
  if (!records_.known()) records_.previous = record.previous;
  records_.last = record.start;
}

bool BlockMap::continues(const BlockMap& before) const {
  return !records_.known() || !before.records_.known() || records_.previous == before.records_.last;
}

void BlockMap::merge(const BlockMap& next) {
  HF_ASSERT(next.coverage_.start <= coverage_.end && coverage_.end <= next.coverage_.end);
  HF_ASSERT(next.coverage_.system_identifier == coverage_.system_identifier);
  coverage_.end = next.coverage_.end;
  coverage_.timeline = next.coverage_.timeline;
  // Behind a map that does not say, nothing is known of what comes before the next one.
  if (next.records_.known()) {
    records_ = {.previous = records_.known() ? records_.previous : next.records_.previous,
                .last = next.records_.last};
  } else {
    records_ = {};
  }
  wal_minimal_ = wal_minimal_ || next.wal_minimal_;
  for (const auto& [database_oid, tablespace] : next.databases_) {
    database(database_oid, tablespace);
  }
  for (const auto& [locator, theirs] : next.forks_) {
    ForkChanges& ours = changes(locator);
    ours.change_from(theirs.limit);
    ours.blocks.insert(theirs.blocks);
    // Theirs may lie beyond a limit of ours.
    if (ours.limit != ForkChanges::kNoLimit) ours.blocks.erase_from(ours.limit);
  }
}

void BlockMap::change(const BlockKey& key) {
  if (is_mapped(key.fork)) changes({key.relation, key.fork}).change(key.block);
}

void BlockMap::add(const ForkLocator& fork, ForkChanges changes) {
  const bool added = forks_.emplace(fork, std::move(changes)).second;
  HF_ASSERT(is_mapped(fork.fork) && added);
}

void BlockMap::from(const BlockKey& first) {
  if (is_mapped(first.fork)) changes({first.relation, first.fork}).change_from(first.block);
}

void BlockMap::relation(const RelationLocator& relation) {
  for (const Fork fork : kMappedForks) changes({relation, fork}).change_from(0);
}

void BlockMap::database(std::uint32_t database, std::uint32_t tablespace) {
  databases_.emplace(database, tablespace);
}

BlockMap build_block_map(const postgres::WalRange& range, postgres::TimelineId timeline,
                         const postgres::WalInput& input, const Stop& stop) {
  BlockMap map({.system_identifier = range.reader.system_identifier,
                .timeline = timeline,
                .start = range.reader.start,
                .end = range.end});
  postgres::scan_wal(
      range, input,
      [&](const postgres::WalRecord& record) {
        map.add_record(record);
        postgres::visit_changes(record, range.reader.major, map);
      },
      stop);
  return map;
}

}  // namespace holdfast::collection
