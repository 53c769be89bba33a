#include "collection/wal_tail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using ::testing::ElementsAre;

const WalSegmentId kTailId{
    .system_identifier = 42, .timeline = 1, .segment = 300, .segment_bytes = 16U << 20};

void pattern(std::uint64_t offset, MutableByteView into) {
  for (std::size_t i = 0; i < into.size(); ++i) {
    into[i] = static_cast<std::byte>((offset + i) / 997);
  }
}

TEST(WalTail, IsReadBackAndTheLongestComesFirst) {
  storage::MemoryStore store;
  const Stop stop = Stop::never();
  for (const std::uint64_t bytes : {5000U, 3000001U, 17U}) {
    EXPECT_TRUE(put_wal_tail(store, kTailId, bytes, pattern, Compression{}, stop));
  }
  EXPECT_THAT(list_wal_tails(store, kTailId, stop), ElementsAre(3000001U, 5000U, 17U));
  auto next = kTailId;
  ++next.segment;
  EXPECT_THAT(list_wal_tails(store, next, stop), ElementsAre());
  EXPECT_LT(wal_tail_key(kTailId, 5000), wal_tail_key(kTailId, 17));

  Bytes got;
  EXPECT_TRUE(get_wal_tail(
      store, kTailId, 3000001,
      [&](std::uint64_t offset, ByteView bytes) {
        EXPECT_EQ(offset, got.size());
        got.insert(got.end(), bytes.begin(), bytes.end());
      },
      stop));
  Bytes expected(3000001);
  pattern(0, expected);
  EXPECT_EQ(got, expected);
  EXPECT_FALSE(get_wal_tail(
      store, kTailId, 18, [](std::uint64_t, ByteView) {}, stop));

  remove_wal_tails(store, kTailId, 3000001, stop);
  EXPECT_THAT(list_wal_tails(store, kTailId, stop), ElementsAre(3000001U));
  // A segment's listing does not take its beginning for the whole.
  EXPECT_THAT(list_wal_segments(store, 42, 1, kTailId.segment_bytes, stop), ElementsAre());
}

TEST(WalTail, IsNotTakenForAnotherLength) {
  storage::MemoryStore store;
  const Stop stop = Stop::never();
  put_wal_tail(store, kTailId, 5000, pattern, Compression{}, stop);
  const auto stored = storage::get_whole(store, wal_tail_key(kTailId, 5000), 1U << 20, stop);
  store.put(wal_tail_key(kTailId, 6000), *stored, storage::PutMode::OnlyIfAbsent, stop);
  EXPECT_THROW(get_wal_tail(
                   store, kTailId, 6000, [](std::uint64_t, ByteView) {}, stop),
               Error);
}

}  // namespace
}  // namespace holdfast::collection
