#include "cli/userfile.h"

#include <gtest/gtest.h>

namespace holdfast::cli {
namespace {

TEST(UserfileMatches, PatternsDoNotCrossDirectories) {
  EXPECT_TRUE(userfile_matches("a/b.csv", ""));
  EXPECT_TRUE(userfile_matches("b.csv", "*.csv"));
  EXPECT_FALSE(userfile_matches("a/b.csv", "*.csv"));
  EXPECT_TRUE(userfile_matches("a/b.csv", "a/*"));
  EXPECT_FALSE(userfile_matches("a/b/c", "a/*"));
  EXPECT_TRUE(userfile_matches("a/b/c", "*/?/[a-c]"));
}

TEST(UserfileMatches, NamesMeanThemselvesAndWhatIsBelow) {
  EXPECT_TRUE(userfile_matches("dir/a/b", "dir"));
  EXPECT_TRUE(userfile_matches("dir", "dir"));
  EXPECT_FALSE(userfile_matches("dir2/a", "dir"));
  EXPECT_FALSE(userfile_matches("a/dir", "dir"));
}

}  // namespace
}  // namespace holdfast::cli
