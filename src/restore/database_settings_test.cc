#include "restore/database_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::restore {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;

TEST(DatabaseSettings, ListsAreSplitAsPostgresDoesIt) {
  EXPECT_THAT(split_names("\"$user\", public", Fold::Yes),
              Optional(ElementsAre("$user", "public")));
  EXPECT_THAT(split_names(" a ,\"b, \"\"c\",Dé", Fold::Yes),
              Optional(ElementsAre("a", "b, \"c", "dé")));
  EXPECT_THAT(split_names("\"\"", Fold::Yes), Optional(ElementsAre("")));
  EXPECT_THAT(split_names("", Fold::Yes), Optional(IsEmpty()));
  EXPECT_THAT(split_names("$libdir/Lib", Fold::No), Optional(ElementsAre("$libdir/Lib")));
  for (const char* broken : {"\"a", "a,", ",a", "a b", "\"a\"b"}) {
    EXPECT_EQ(split_names(broken, Fold::Yes), std::nullopt) << broken;
  }
}

TEST(DatabaseSettings, ElementsAreQuotedOneByOne) {
  EXPECT_EQ(setting_value("search_path", "\"it's; DROP\", public"), "'it''s; DROP', 'public'");
  EXPECT_EQ(setting_value("search_path", "\"\""), "''");
  EXPECT_EQ(setting_value("search_path", "\"a"), "'\"a'");
  EXPECT_EQ(setting_value("work_mem", "a, b"), "'a, b'");
}

}  // namespace
}  // namespace holdfast::restore
