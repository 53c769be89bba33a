#include "restore/recovery_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "restore/tablespace_mapping.h"
#include "restore/testing/restore_lab.h"
#include "restore/user_objects.h"

namespace holdfast::restore {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kBlock =
    "# begin of holdfast's recovery settings\nrecovery_target = 'immediate'\n"
    "# end of holdfast's recovery settings\n";

TEST(RecoverySettings, AreTakenOutWhole) {
  const std::string text = "a = 1\n" + std::string(kBlock) + "b = 2";
  EXPECT_EQ(without_recovery_settings(text), "a = 1\nb = 2");
  EXPECT_EQ(without_recovery_settings(kBlock), "");
  EXPECT_EQ(without_recovery_settings(""), "");
}

TEST(RecoverySettings, HalfABlockIsLeftAlone) {
  const std::string text = "# begin of holdfast's recovery settings\na = 1\n";
  EXPECT_EQ(without_recovery_settings(text), text);
}

TEST(HighestTimeline, CountsWhatTheCollectionHolds) {
  testing::RestoreLab lab;
  EXPECT_EQ(highest_timeline(lab.store(), lab.manifest(), 0, Stop::never()), 1U);
  EXPECT_EQ(highest_timeline(lab.store(), lab.manifest(), 3, Stop::never()), 3U);
  const std::string key =
      "wal/" + std::to_string(lab.manifest().instance().system_identifier()) + "/0000000A/x.wal";
  lab.store().put(key, {}, storage::PutMode::Overwrite, Stop::never());
  EXPECT_EQ(highest_timeline(lab.store(), lab.manifest(), 3, Stop::never()), 10U);
}

TEST(TablespaceMapping, ReadsOidsAndPaths) {
  const auto mapping = parse_tablespace_mapping("16400=/new/,/o\\=l\\,d=/x=y");
  ASSERT_EQ(mapping.size(), 2U);
  EXPECT_EQ(mapping[0].from(), "16400");
  EXPECT_EQ(mapping[0].to(), "/new");
  EXPECT_EQ(mapping[1].from(), "/o=l,d");
  EXPECT_EQ(mapping[1].to(), "/x=y");
}

TEST(TablespaceMapping, RefusesWhatItCannotMean) {
  for (const char* text : {"", "16400", "16400=", "16400=relative", "name=/x", "=/x", "1=/x,", ",",
                           "1=/x,1=/y", "1=/x\\", "1=/a\nb"}) {
    EXPECT_THROW(parse_tablespace_mapping(text), Error) << text;
  }
}

TEST(UserObjects, AtMostTwentyAreNamed) {
  EXPECT_NO_THROW(require_no_user_objects({}));
  std::vector<std::string> names;
  for (int i = 1; i <= 25; ++i) names.push_back("db" + std::to_string(i));
  try {
    require_no_user_objects(names);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("found 25 descriptors: db1, "));
    EXPECT_TRUE(error.message().ends_with(", db20"));
  }
}

}  // namespace
}  // namespace holdfast::restore
