#include "backup/scope.h"

#include <gtest/gtest.h>

#include "backup/scoped_wal.h"
#include "base/error.h"

namespace holdfast::backup {
namespace {

constexpr std::uint32_t kDatabase = 16384;

ScopeListing listing(std::map<std::uint32_t, std::uint32_t> relations) {
  ScopeListing one;
  one.tables[kDatabase].relations = std::move(relations);
  return one;
}

bool accepted(const ScopeCheck& check) {
  try {
    require_all_files(check);
    return true;
  } catch (const Error& error) {
    EXPECT_TRUE(error.retry_is_safe());
    return false;
  }
}

TEST(ScopeCheck, WantsEveryFileCopiedOrMadeByTheWal) {
  const ScopeListing end = listing({{20000, 20000}, {20001, 20005}, {20002, 0}});
  const auto check = [&](DatabaseFiles copied, DatabaseFiles created) {
    return accepted({.end = end,
                     .after = end,
                     .copied = std::move(copied),
                     .created = std::move(created),
                     .dropped = {},
                     .redefined = {}});
  };
  EXPECT_TRUE(check({{kDatabase, 20000}, {kDatabase, 20005}}, {}));
  EXPECT_TRUE(check({{kDatabase, 20000}}, {{kDatabase, 20005}}));
  EXPECT_FALSE(check({{kDatabase, 20000}}, {}));
  // The same number in another database is another file.
  EXPECT_FALSE(check({{kDatabase, 20000}}, {{kDatabase + 1, 20005}}));
}

TEST(ScopeCheck, NoticesWhatChangesAroundTheEnd) {
  const ScopeListing end = listing({{20000, 20000}});
  const DatabaseFiles copied = {{kDatabase, 20000}};
  const auto check = [&](const ScopeListing& after, DatabaseFiles dropped) {
    return accepted({.end = end,
                     .after = after,
                     .copied = copied,
                     .created = {},
                     .dropped = std::move(dropped),
                     .redefined = {}});
  };
  EXPECT_TRUE(check(end, {{kDatabase, 19000}}));
  EXPECT_FALSE(check(listing({{20000, 20007}}), {}));
  EXPECT_FALSE(check(listing({{20000, 20000}, {20001, 20001}}), {}));
  EXPECT_FALSE(check(listing({}), {}));
  // Committed, but not visible yet to who listed.
  EXPECT_FALSE(check(end, {{kDatabase, 20000}}));
}

TEST(ScopeCheck, NoticesARelationThatACommitRedefined) {
  ScopeListing end = listing({{20000, 20000}, {2619, 2619}});
  end.tables[kDatabase].catalogs = {2619};
  const auto check = [&](std::uint32_t database, std::uint32_t relation) {
    return accepted({.end = end,
                     .after = end,
                     .copied = {{kDatabase, 20000}, {kDatabase, 2619}},
                     .created = {},
                     .dropped = {},
                     .redefined = {{database, relation}}});
  };
  EXPECT_FALSE(check(kDatabase, 20000));
  EXPECT_TRUE(check(kDatabase, 30000));
  EXPECT_TRUE(check(kDatabase + 1, 20000));
  EXPECT_TRUE(check(kDatabase, 2619));  // a catalog
}

TEST(ScopedWal, EndsBehindOneMoreRecord) {
  constexpr std::uint64_t kSegment = 1U << 20;
  const auto end = [&](std::uint64_t stop) {
    return scoped_wal_end(postgres::Lsn{stop}, kSegment).value;
  };
  EXPECT_EQ(end(3 * kSegment + 1000), 3 * kSegment + 1001);
  EXPECT_EQ(end(3 * kSegment + 1003), 3 * kSegment + 1009);
  // On the next page its header comes first.
  EXPECT_EQ(end(3 * kSegment + 8190), 3 * kSegment + 8192 + 25);
  EXPECT_EQ(end(3 * kSegment + 8192), 3 * kSegment + 8192 + 25);
  // Nothing more may come in a segment that was filled to its end.
  EXPECT_EQ(end(4 * kSegment), 4 * kSegment);
}

}  // namespace
}  // namespace holdfast::backup
