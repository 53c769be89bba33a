#include "backup/changed_databases.h"

#include <gtest/gtest.h>

namespace holdfast::backup {
namespace {

TEST(ChangedDatabasesTest, ComparesTransactionsAcrossWraparound) {
  EXPECT_TRUE(may_be_since(900, 800, 1000));
  EXPECT_TRUE(may_be_since(800, 800, 1000));
  EXPECT_FALSE(may_be_since(799, 800, 1000));
  const std::uint64_t epoch = std::uint64_t{1} << 32;
  // The base is from before the counter began anew, the row from before or after.
  EXPECT_TRUE(may_be_since(5, epoch - 10, epoch + 100));
  EXPECT_TRUE(may_be_since(0xFFFFFFF8, epoch - 10, epoch + 100));
  EXPECT_FALSE(may_be_since(0xFFFFFFF0, epoch - 10, epoch + 100));
}

TEST(ChangedDatabasesTest, TakesADoubtfulRowAsNew) {
  // Rows live longer than 32 bits tell apart once they are frozen.
  const std::uint64_t epoch = std::uint64_t{1} << 32;
  EXPECT_TRUE(may_be_since(700, 5, epoch + 1000));
  EXPECT_TRUE(may_be_since(700, 0, 1000));
}

TEST(ChangedDatabasesTest, KnowsWhatInitdbMade) {
  EXPECT_FALSE(may_be_since(1, 3, 1000));
  EXPECT_FALSE(may_be_since(2, 3, 1000));
}

}  // namespace
}  // namespace holdfast::backup
