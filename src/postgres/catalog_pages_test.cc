#include "postgres/catalog_pages.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "base/error.h"
#include "postgres/crc32c.h"
#include "postgres/page.h"
#include "postgres/versions.h"

namespace holdfast::postgres {
namespace {

/// A heap page with rows behind headers of 32 bytes.
Bytes page_of(const std::vector<Bytes>& rows) {
  Bytes page(kPageBytes);
  std::size_t upper = kPageBytes;
  std::size_t lower = 24;
  for (const Bytes& row : rows) {
    const std::size_t length = 32 + row.size();
    upper -= (length + 7) / 8 * 8;
    store<std::uint8_t>(page, upper + 22, 32);
    std::memcpy(page.data() + upper + 32, row.data(), row.size());
    store<std::uint32_t>(page, lower, static_cast<std::uint32_t>(upper | 1U << 15 | length << 17));
    lower += 4;
  }
  store<std::uint16_t>(page, 12, static_cast<std::uint16_t>(lower));
  return page;
}

Bytes class_row(std::uint32_t oid, std::uint32_t file, std::string_view name = "t") {
  Bytes row(144);
  store(row, 0, oid);
  std::memcpy(row.data() + 4, name.data(), name.size());
  store(row, 88, file);
  return row;
}

TEST(CatalogPages, GivesEveryRowOfPgClass) {
  Bytes pages = page_of({class_row(1259, 0), class_row(16384, 16390)});
  const Bytes second = page_of({class_row(16384, 16399)});
  pages.insert(pages.end(), second.begin(), second.end());
  std::vector<std::pair<std::uint32_t, std::uint32_t>> seen;
  scan_pg_class(pages, 15, [&](const ClassRow& row) { seen.emplace_back(row.oid, row.file); });
  EXPECT_EQ(seen, (std::vector<std::pair<std::uint32_t, std::uint32_t>>{
                      {1259, 0}, {16384, 16390}, {16384, 16399}}));
}

TEST(CatalogPages, GivesNamesOfRelations) {
  std::vector<std::string> seen;
  const Bytes page = page_of(
      {class_row(16384, 16390, "pg_toast_16380"), class_row(16385, 16391, std::string(63, 'n'))});
  scan_pg_class(page, 15, [&](const ClassRow& row) { seen.emplace_back(row.name); });
  EXPECT_EQ(seen, (std::vector<std::string>{"pg_toast_16380", std::string(63, 'n')}));
}

TEST(CatalogPages, GivesKindAndSchemaOfRelationsOfEachVersion) {
  for (const auto& [major, offset] : {std::pair(13, 115), {17, 115}, {18, 119}}) {
    Bytes row = class_row(16384, 16390);
    store<std::uint32_t>(row, 68, 2200);
    store<std::uint8_t>(row, static_cast<std::size_t>(offset), 'i');
    std::vector<std::pair<std::uint32_t, char>> seen;
    scan_pg_class(page_of({row}), major,
                  [&](const ClassRow& found) { seen.emplace_back(found.schema, found.kind); });
    EXPECT_EQ(seen, (std::vector<std::pair<std::uint32_t, char>>{{2200, 'i'}})) << major;
  }
}

TEST(CatalogPages, TellsWhichTableIsToasted) {
  EXPECT_EQ(toasted_table("pg_toast_16380"), 16380U);
  EXPECT_EQ(toasted_table("pg_toast_16380_index"), 16380U);
  EXPECT_EQ(toasted_table("pg_toast_4294967295"), 4294967295U);
  for (const auto name : {"pg_toast_", "pg_toast_4294967296", "pg_toast_1x", "pg_toast__index",
                          "toast_5", "", "pg_toast_5_index_index"}) {
    EXPECT_EQ(toasted_table(name), std::nullopt) << name;
  }
}

TEST(CatalogPages, GivesWhoInheritsFromWhom) {
  Bytes row(16);
  store<std::uint32_t>(row, 0, 16400);
  store<std::uint32_t>(row, 4, 16390);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> seen;
  scan_pg_inherits(page_of({row}),
                   [&](const InheritsRow& link) { seen.emplace_back(link.child, link.parent); });
  EXPECT_EQ(seen, (std::vector<std::pair<std::uint32_t, std::uint32_t>>{{16400, 16390}}));
}

TEST(CatalogPages, GivesNamesOfRoles) {
  Bytes row(80);
  store<std::uint32_t>(row, 0, 10);
  std::memcpy(row.data() + 4, "the boss", 8);
  std::vector<RoleRow> seen;
  scan_pg_authid(page_of({row}), [&](const RoleRow& role) { seen.push_back(role); });
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].oid, 10U);
  EXPECT_EQ(seen[0].name, "the boss");
}

TEST(CatalogPages, IsNotHarmedByWhatIsNoPage) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    Bytes pages = page_of({class_row(1, 2), class_row(3, 4)});
    for (int i = 0; i < 40; ++i) pages[random() % 64] = static_cast<std::byte>(random());
    pages.resize(pages.size() + random() % 100);
    scan_pg_class(pages, 13 + round % 6, [](const ClassRow& row) { toasted_table(row.name); });
    scan_pg_inherits(pages, [](const InheritsRow&) {});
    scan_pg_authid(pages, [](const RoleRow&) {});
  }
}

TEST(RelationMap, IsReadForEachVersionAndChecked) {
  for (const VersionFacts& facts : all_versions()) {
    Bytes map(static_cast<std::size_t>(facts.filenode_map_bytes));
    store<std::uint32_t>(map, 0, 0x592717);
    store<std::uint32_t>(map, 4, 2);
    store<std::uint32_t>(map, 8, 1259);
    store<std::uint32_t>(map, 12, 16500);
    store<std::uint32_t>(map, 16, 1249);
    store<std::uint32_t>(map, 20, 1249);
    const std::size_t crc = 8 + static_cast<std::size_t>(facts.filenode_map_slots) * 8;
    store<std::uint32_t>(map, crc, crc32c(ByteView(map).first(crc)));
    const auto files = parse_relation_map(map, facts.major);
    EXPECT_EQ(files, (std::map<std::uint32_t, std::uint32_t>{{1259, 16500}, {1249, 1249}}));
    map[12] ^= std::byte{1};
    EXPECT_THROW(parse_relation_map(map, facts.major), Error);
    EXPECT_THROW(parse_relation_map(ByteView(map).first(100), facts.major), Error);
  }
}

}  // namespace
}  // namespace holdfast::postgres
