#include "collection/milestone.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "base/error.h"
#include "collection/encryption.h"
#include "storage/memory_store.h"

namespace holdfast::collection {
namespace {

using postgres::Lsn;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint64_t kSystem = 42;

Milestone made(std::string name, std::uint64_t lsn, postgres::TimelineId timeline = 1,
               std::string database = "bank") {
  return {.name = std::move(name),
          .database = std::move(database),
          .user = "ann",
          .time = Time(std::chrono::microseconds(1'750'000'000'123'456)),
          .timeline = timeline,
          .lsn = Lsn{lsn}};
}

class MilestoneTest : public ::testing::Test {
 protected:
  void put(const Milestone& milestone) { put_milestone(store_, kSystem, milestone, stop_); }
  std::vector<Milestone> list() { return list_milestones(store_, kSystem, stop_); }
  std::size_t objects() {
    std::size_t count = 0;
    store_.list(
        "", [&](const storage::ObjectInfo&) { ++count; }, stop_);
    return count;
  }
  void put_bytes(std::string_view name, ByteView bytes) {
    store_.put(milestone_directory(kSystem) + "/" + std::string(name), bytes,
               storage::PutMode::Overwrite, stop_);
  }

  storage::MemoryStore store_;
  const Stop stop_ = Stop::never();
};

TEST_F(MilestoneTest, AreListedInTheOrderOfHistory) {
  EXPECT_THAT(list(), IsEmpty());
  const Milestone late = made("größe 'x'/..", 0x2000, 2);
  const Milestone middle = made("b", 0x3000);
  const Milestone early = made("z", 0x1000);
  for (const Milestone& one : {late, middle, early}) put(one);
  EXPECT_THAT(list(), ElementsAre(early, middle, late));
  EXPECT_THAT(list_wal_servers(store_, stop_), ElementsAre(kSystem));
  EXPECT_THAT(list_milestones(store_, 7, stop_), IsEmpty());
}

TEST_F(MilestoneTest, ALaterOneOfThatNameTakesItsPlace) {
  put(made("a", 0x1000));
  put(made("a", 0x1500, 1, "other"));
  put(made("a", 0x2000));
  EXPECT_THAT(list(), ElementsAre(made("a", 0x1500, 1, "other"), made("a", 0x2000)));
  EXPECT_EQ(objects(), 2U);
  // Restored to an earlier moment, the server goes on on another timeline.
  put(made("a", 0x1200, 2));
  EXPECT_THAT(list(), ElementsAre(made("a", 0x1500, 1, "other"), made("a", 0x1200, 2)));
  // An earlier one that comes late, as by two sessions at once, is not seen.
  put(made("a", 0x1800));
  EXPECT_THAT(list(), SizeIs(2));
  EXPECT_EQ(list()[1], made("a", 0x1200, 2));
  // The same once more changes nothing.
  put(made("a", 0x1200, 2));
  EXPECT_THAT(list(), SizeIs(2));
}

TEST_F(MilestoneTest, NamesAreReadInOneSpellingOnly) {
  const auto place = parse_milestone_name("0000000A.00000000000012F0.milestone");
  ASSERT_TRUE(place);
  EXPECT_EQ(place->timeline, 10U);
  EXPECT_EQ(place->lsn, Lsn{0x12f0});
  for (const std::string_view name :
       {"", "0000000a.00000000000012F0.milestone", "0000000A.00000000000012F0.milestonf",
        "0000000A-00000000000012F0.milestone", "0000000A.000000000000012F0.mileston",
        "0000000G.00000000000012F0.milestone", "0000000A.+0000000000012F0.milestone"}) {
    EXPECT_FALSE(parse_milestone_name(name)) << name;
  }
}

TEST_F(MilestoneTest, DamageIsRefusedWithTheObjectsName) {
  const auto error = [&]() -> std::string {
    try {
      list();
      return "no error";
    } catch (const Error& failure) {
      return failure.message();
    }
  };
  put_bytes("note.txt", as_bytes("no milestone"));
  EXPECT_THAT(list(), IsEmpty());
  put(made("a", 0x1000));
  const std::string key = milestone_key(kSystem, 1, Lsn{0x1000});
  const Bytes good = *storage::get_whole(store_, key, 4096, stop_);
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= std::byte{0x10};
    store_.put(key, bad, storage::PutMode::Overwrite, stop_);
    EXPECT_THAT(error(), HasSubstr(key)) << i;
    store_.put(key, ByteView(good).first(i), storage::PutMode::Overwrite, stop_);
    EXPECT_THAT(error(), HasSubstr(key)) << i;
  }
  store_.put(key, good, storage::PutMode::Overwrite, stop_);
  EXPECT_THAT(list(), SizeIs(1));
  // Put in another's place.
  put_bytes("00000001.0000000000002000.milestone", good);
  EXPECT_THAT(error(), HasSubstr("00000001.0000000000002000.milestone"));
}

TEST_F(MilestoneTest, AreEncryptedWithTheWal) {
  auto owned = std::make_unique<storage::MemoryStore>();
  storage::MemoryStore& plain = *owned;
  const auto sealed =
      with_keys(std::move(owned), {.chain = std::nullopt,
                                   .wal = CollectionKeys::Wal{.system_identifier = kSystem,
                                                              .key = crypto::SecretKey::random()}});
  put_milestone(*sealed, kSystem, made("confidential", 0x1000), stop_);
  EXPECT_THAT(list_milestones(*sealed, kSystem, stop_), ElementsAre(made("confidential", 0x1000)));
  EXPECT_THROW(list_milestones(plain, kSystem, stop_), Error);
  const auto stored =
      storage::get_whole(plain, milestone_key(kSystem, 1, Lsn{0x1000}), 4096, stop_);
  EXPECT_EQ(as_text(*stored).find("confidential"), std::string_view::npos);
}

}  // namespace
}  // namespace holdfast::collection
