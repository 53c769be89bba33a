#include "backup/wal_holds.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

namespace holdfast::backup {
namespace {

using postgres::Lsn;

class WalHoldsTest : public ::testing::Test {
 protected:
  WalHoldsTest() {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-holds-XXXXXX").string();
    directory_ = mkdtemp(name.data());
  }
  ~WalHoldsTest() override { std::filesystem::remove_all(directory_); }

  static WalHold hold(std::string owner, std::uint64_t from) {
    return {.owner = std::move(owner),
            .full = "2026/11/20-223000.00",
            .timeline = 2,
            .from = Lsn{from},
            .since = time_from_us(1'700'000'000'000'000)};
  }

  std::filesystem::path directory_;
};

TEST_F(WalHoldsTest, AreThereAfterARestart) {
  {
    state::Database database(directory_);
    WalHolds(database, "slot").put(hold("scope 5", 4096));
  }
  state::Database database(directory_);
  const auto held = WalHolds(database, "slot").list();
  ASSERT_EQ(held.size(), 1U);
  EXPECT_EQ(held[0].owner, "scope 5");
  EXPECT_EQ(held[0].full, "2026/11/20-223000.00");
  EXPECT_EQ(held[0].timeline, 2U);
  EXPECT_EQ(held[0].from, Lsn{4096});
  EXPECT_EQ(held[0].since, time_from_us(1'700'000'000'000'000));
}

TEST_F(WalHoldsTest, AreOneForEachOwnerAndSlot) {
  state::Database database(directory_);
  WalHolds one(database, "one");
  WalHolds other(database, "other");
  one.put(hold("scope 5", 1));
  one.put(hold("job 7", 2));
  one.put(hold("scope 5", 3));
  other.put(hold("scope 5", 4));
  ASSERT_EQ(one.list().size(), 2U);
  EXPECT_EQ(one.list()[1].from, Lsn{3});
  one.release("job 7");
  one.release("nobody");
  ASSERT_EQ(one.list().size(), 1U);
  EXPECT_EQ(one.list()[0].owner, "scope 5");
  one.clear();
  EXPECT_TRUE(one.list().empty());
  EXPECT_EQ(other.list().size(), 1U);
}

TEST_F(WalHoldsTest, ReleasesOnlyWhatWasListed) {
  state::Database database(directory_);
  WalHolds holds(database, "slot");
  holds.put(hold("scope 5", 1));
  const WalHold listed = holds.list().at(0);
  holds.put(hold("scope 5", 2));
  holds.release(listed);
  ASSERT_EQ(holds.list().size(), 1U);
  holds.release(holds.list().at(0));
  EXPECT_TRUE(holds.list().empty());
}

}  // namespace
}  // namespace holdfast::backup
