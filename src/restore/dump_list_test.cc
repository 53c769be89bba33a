#include "restore/dump_list.h"

#include <gtest/gtest.h>

namespace holdfast::restore {
namespace {

TEST(DumpList, GivesTheEntriesWithTheirObjects) {
  const auto entries = parse_dump_list(
      ";\n; Archive created at 2026-11-27\n;\n"
      "217; 1259 16400 INDEX public \"odd\" name; 1 2 postgres\n"
      "218; 2606 16410 CONSTRAINT public t t_pkey postgres\n"
      "219; 0 0 INDEX ATTACH public part_at postgres\n"
      "220; 0 0 ACL public TABLE t alice");
  ASSERT_EQ(entries.size(), 4U);
  EXPECT_EQ(entries[0].line, "217; 1259 16400 INDEX public \"odd\" name; 1 2 postgres\n");
  EXPECT_EQ(entries[0].catalog, 1259U);
  EXPECT_EQ(entries[0].object, 16400U);
  EXPECT_EQ(entries[0].what, "INDEX public \"odd\" name; 1 2 postgres");
  EXPECT_EQ(entries[1].object, 16410U);
  EXPECT_EQ(entries[2].catalog, 0U);
  EXPECT_EQ(entries[3].line, "220; 0 0 ACL public TABLE t alice");
  EXPECT_EQ(entries[3].what, "ACL public TABLE t alice");
}

TEST(DumpList, PassesOverWhatIsNoEntry) {
  EXPECT_TRUE(parse_dump_list("").empty());
  EXPECT_TRUE(parse_dump_list("\n\n217;\n218; 1\n219; 1 2\n").empty());
}

}  // namespace
}  // namespace holdfast::restore
