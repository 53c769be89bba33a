#include "collection/block_map_store.h"

#include <fmt/format.h>

#include "base/assert.h"
#include "base/error.h"
#include "collection/format.h"
#include "collection/names_internal.h"

namespace holdfast::collection {

storage::ObjectKey block_map_key(const WalSegmentId& id) {
  return fmt::format("{}/{}{}", wal_timeline_directory(id.system_identifier, id.timeline),
                     postgres::wal_segment_name(id.timeline, id.segment, id.segment_bytes),
                     kBlockMapSuffix);
}

WalCoverage coverage_of(const WalSegmentId& id) {
  return {.system_identifier = id.system_identifier,
          .timeline = id.timeline,
          .start = postgres::segment_start(id.segment, id.segment_bytes),
          .end = postgres::segment_start(id.segment + 1, id.segment_bytes)};
}

void put_block_map(storage::ObjectStore& store, const WalSegmentId& id, const BlockMap& map,
                   const Stop& stop) {
  HF_ASSERT(map.coverage() == coverage_of(id));
  const storage::ObjectKey key = block_map_key(id);
  const Bytes stored = serialize(map);
  if (store.put(key, stored, storage::PutMode::OnlyIfAbsent, stop) == storage::PutResult::Stored) {
    return;
  }
  const auto there = get_block_map(store, id, stop);
  // Compared as it is stored now: an earlier release may have compressed it another way, and did
  // not write where the records are.
  BlockMap comparable = map;
  if (there && !there->records().known()) comparable.set_records({});
  if (there && serialize(*there) == serialize(comparable)) return;
  throw Error(sqlstate::kDuplicateFile,
              fmt::format("WAL archive already has a different \"{}\"", key))
      .detail(
          "The server was set back to an earlier state without a new timeline, as a snapshot of "
          "its disk does, or two servers write to one collection.")
      .hint("Take a full backup into a new collection.");
}

std::optional<BlockMap> get_block_map(storage::ObjectStore& store, const WalSegmentId& id,
                                      const Stop& stop) {
  const storage::ObjectKey key = block_map_key(id);
  const auto stored = storage::get_whole(store, key, storage::kMaxObjectBytes, stop);
  if (!stored) return std::nullopt;
  BlockMap map = parse_block_map(*stored, key);
  if (map.coverage() != coverage_of(id)) {
    throw Error(sqlstate::kDataCorrupted, fmt::format("block map \"{}\" is corrupt", key))
        .detail("It belongs to another place.");
  }
  return map;
}

}  // namespace holdfast::collection
