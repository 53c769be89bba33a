#include "postgres/wal_changes.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::postgres {
namespace {

/// Notes what it is told, in words.
class Notes final : public WalChangeVisitor {
 public:
  void block(const WalBlock& block) override { note("block", block.key); }
  void from(const BlockKey& first) override { note("from", first); }
  void relation(const RelationLocator& relation) override {
    text += fmt::format("relation {}/{}/{}; ", relation.tablespace, relation.database,
                        relation.relation);
  }
  void database(std::uint32_t database, std::uint32_t tablespace) override {
    text += fmt::format("database {} in {}; ", database, tablespace);
  }
  void wal_minimal() override { text += "minimal; "; }

  std::string text;

 private:
  void note(std::string_view what, const BlockKey& key) {
    text += fmt::format("{} {}/{}/{} fork {} block {}; ", what, key.relation.tablespace,
                        key.relation.database, key.relation.relation, static_cast<int>(key.fork),
                        key.block);
  }
};

Bytes words(std::initializer_list<std::uint32_t> values) {
  Bytes bytes(values.size() * 4);
  std::size_t at = 0;
  for (const auto value : values) {
    store(bytes, at, value);
    at += 4;
  }
  return bytes;
}

std::string changes(int major, std::uint8_t manager, std::uint8_t info, const Bytes& main_data) {
  WalRecord record;
  record.resource_manager = manager;
  record.info = info;
  record.main_data = main_data;
  Notes notes;
  visit_changes(record, major, notes);
  return notes.text;
}

TEST(WalChanges, NamesEveryBlockOfAnyResourceManager) {
  WalRecord record;
  record.resource_manager = 200;  // an extension's
  record.blocks.resize(2);
  record.blocks[0].key = {{1663, 5, 7}, Fork::Main, 3};
  record.blocks[1].key = {{1663, 5, 8}, Fork::Init, 0};
  Notes notes;
  visit_changes(record, 15, notes);
  EXPECT_EQ(notes.text, "block 1663/5/7 fork 0 block 3; block 1663/5/8 fork 3 block 0; ");
}

TEST(WalChanges, KnowsCreationAndTruncation) {
  EXPECT_EQ(changes(15, rmgr::kSmgr, 0x10, words({1663, 5, 7, 3})),
            "from 1663/5/7 fork 3 block 0; ");
  EXPECT_EQ(changes(15, rmgr::kSmgr, 0x20, words({40000, 1663, 5, 7, 7})),
            "from 1663/5/7 fork 0 block 40000; from 1663/5/7 fork 2 block 1; "
            "from 1663/5/7 fork 1 block 0; ");
  // pg_truncate_visibility_map() leaves the table alone.
  EXPECT_EQ(changes(15, rmgr::kSmgr, 0x20, words({0, 1663, 5, 7, 2})),
            "from 1663/5/7 fork 2 block 0; ");
  EXPECT_THROW(changes(15, rmgr::kSmgr, 0x20, words({0, 1663, 5})), Error);
  EXPECT_THROW(changes(15, rmgr::kSmgr, 0x10, words({1663, 5, 7, 9})), Error);
}

TEST(WalChanges, TellsCreationFromTruncationToNothing) {
  const Bytes create = words({1663, 5, 7, 0});
  WalRecord record;
  record.resource_manager = rmgr::kSmgr;
  record.info = 0x10;
  record.main_data = create;
  EXPECT_EQ(parse_file_creation(record), (BlockKey{{1663, 5, 7}, Fork::Main, 0}));
  record.resource_manager = rmgr::kXlog;
  EXPECT_EQ(parse_file_creation(record), std::nullopt);
  const Bytes truncate = words({0, 1663, 5, 7, 7});
  record.resource_manager = rmgr::kSmgr;
  record.info = 0x20;
  record.main_data = truncate;
  EXPECT_EQ(parse_file_creation(record), std::nullopt);
}

TEST(WalChanges, KnowsDatabasesOfEachVersion) {
  const Bytes create = words({16400, 1663, 1, 1663});
  const Bytes drop = words({16400, 2, 1663, 1700});
  const std::string created = "database 16400 in 1663; ";
  const std::string dropped = "database 16400 in 1663; database 16400 in 1700; ";
  for (const int major : {13, 14}) {
    EXPECT_EQ(changes(major, rmgr::kDatabase, 0x00, create), created);
    EXPECT_EQ(changes(major, rmgr::kDatabase, 0x10, drop), dropped);
  }
  for (const int major : {15, 16, 17, 18}) {
    EXPECT_EQ(changes(major, rmgr::kDatabase, 0x00, create), created);
    EXPECT_EQ(changes(major, rmgr::kDatabase, 0x10, words({16400, 1663})), created);
    EXPECT_EQ(changes(major, rmgr::kDatabase, 0x20, drop), dropped);
  }
  EXPECT_THROW(changes(15, rmgr::kDatabase, 0x20, words({16400, 3, 1663})), Error);
}

TEST(WalChanges, KnowsRelationsDroppedByEveryKindOfEnd) {
  // time, xinfo (subtransactions and relations), two subtransactions, one relation
  const Bytes ended = words({0, 0, 6, 2, 100, 101, 1, 1663, 5, 7});
  for (const std::uint8_t operation : {0x00, 0x20, 0x30, 0x40}) {
    EXPECT_EQ(changes(13, rmgr::kXact, operation | 0x80, ended), "relation 1663/5/7; ");
    EXPECT_EQ(changes(18, rmgr::kXact, operation | 0x80, ended), "relation 1663/5/7; ");
    EXPECT_EQ(changes(18, rmgr::kXact, operation, words({0, 0})), "");
  }
  EXPECT_EQ(changes(15, rmgr::kXact, 0x10 | 0x80, ended), "");  // PREPARE
  EXPECT_THROW(changes(15, rmgr::kXact, 0x80, words({0, 0, 4, 3, 1663, 5, 7})), Error);
}

TEST(WalChanges, KnowsRelationsThatACommitRedefines) {
  using Relations = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
  const auto redefined = [](int major, std::uint8_t info, const Bytes& data) {
    WalRecord record;
    record.resource_manager = rmgr::kXact;
    record.info = info;
    record.main_data = data;
    return redefined_relations(record, major);
  };
  // A hash of a catalog's row, the relation itself, and its files.
  const auto messages = [](std::initializer_list<std::uint32_t> before) {
    Bytes bytes = words(before);
    const Bytes behind =
        words({3, 0x37, 5, 0xABCD, 0, 0xFFFFFE, 5, 16400, 0, 0xFD, 1663, 5, 16400});
    bytes.insert(bytes.end(), behind.begin(), behind.end());
    return bytes;
  };
  const Relations found = {{5, 16400}};
  const auto plain = messages({0, 0, 0xF, 5, 1663, 1, 100, 1, 1663, 5, 7});
  for (const std::uint8_t operation : {0x80, 0xB0}) {
    EXPECT_EQ(redefined(13, operation, plain), found);
    EXPECT_EQ(redefined(18, operation, plain), found);
  }
  EXPECT_EQ(redefined(15, 0x80, messages({0, 0, 0x108, 1, 2, 5, 16390})), found);
  EXPECT_EQ(redefined(18, 0x80, messages({0, 0, 0x108, 1, 2, 5, 16390, 0})), found);
  EXPECT_EQ(redefined(15, 0xA0, plain), Relations());  // abort
  EXPECT_EQ(redefined(15, 0x00, words({0, 0})), Relations());
  EXPECT_THROW(redefined(15, 0x80, words({0, 0, 8, 2, 0xFE, 5, 16400, 0})), Error);
}

TEST(WalChanges, NoticesMinimalWal) {
  const auto parameters = [](std::uint32_t level) { return words({1, 2, 3, 4, 5, level, 0}); };
  const auto checkpoint = [](std::uint32_t level) {
    Bytes bytes(88);
    store<std::uint32_t>(bytes, 20, level);
    return bytes;
  };
  const auto recovery = [](std::uint32_t level) { return words({0, 0, 2, 1, level}); };
  for (const int major : {13, 16, 17, 18}) {
    EXPECT_EQ(changes(major, rmgr::kXlog, 0x60, parameters(0)), "minimal; ");
    EXPECT_EQ(changes(major, rmgr::kXlog, 0x60, parameters(1)), "");
  }
  for (const int major : {17, 18}) {
    for (const std::uint8_t info : {0x00, 0x10}) {
      EXPECT_EQ(changes(major, rmgr::kXlog, info, checkpoint(0)), "minimal; ");
      EXPECT_EQ(changes(major, rmgr::kXlog, info, checkpoint(2)), "");
    }
    EXPECT_EQ(changes(major, rmgr::kXlog, 0xE0, words({0})), "minimal; ");
    EXPECT_EQ(changes(major, rmgr::kXlog, 0xE0, words({1})), "");
    EXPECT_EQ(changes(major, rmgr::kXlog, 0x90, recovery(0)), "minimal; ");
    EXPECT_EQ(changes(major, rmgr::kXlog, 0x90, recovery(1)), "");
  }
  // These had no wal_level yet; the bytes there are something else.
  EXPECT_EQ(changes(16, rmgr::kXlog, 0x00, checkpoint(0)), "");
  EXPECT_EQ(changes(16, rmgr::kXlog, 0x90, words({0, 0, 2, 1})), "");
}

}  // namespace
}  // namespace holdfast::postgres
