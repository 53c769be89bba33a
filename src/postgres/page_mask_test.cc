#include "postgres/page_mask.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "postgres/page.h"
#include "postgres/relation_path.h"
#include "postgres/testing/private_instance.h"

namespace holdfast::postgres {
namespace {

Bytes page_at(const std::filesystem::path& path, std::size_t number) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(number * kPageBytes));
  std::string content(kPageBytes, '\0');
  file.read(content.data(), kPageBytes);
  const ByteView bytes = as_bytes(content);
  return Bytes(bytes.begin(), bytes.end());
}

class PagesOfAServer : public ::testing::Test {
 protected:
  std::filesystem::path file_of(const std::string& relation) {
    return server_.data_directory() /
           server_.execute("SELECT pg_relation_filepath('" + relation + "')").text(0, 0);
  }
  // The page as it is on disk after a checkpoint.
  Bytes stored(const std::string& relation, std::size_t number) {
    const auto path = file_of(relation);
    server_.execute("CHECKPOINT");
    return page_at(path, number);
  }
  static Bytes masked(Bytes page, PageKind kind) {
    mask_page(page, kind, 0, {});
    return page;
  }
  testing::PrivateInstance server_{{.settings = {"autovacuum = off"}}};
};

TEST_F(PagesOfAServer, DifferInHintBitsOnlyBeforeMasking) {
  server_.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 100) g");
  const Bytes before = stored("t", 0);
  server_.execute("SELECT count(*) FROM t");
  const Bytes hinted = stored("t", 0);
  ASSERT_NE(before, hinted);
  EXPECT_EQ(guess_page_kind(before), PageKind::Heap);
  EXPECT_EQ(masked(before, PageKind::Heap), masked(hinted, PageKind::Heap));
  server_.execute("UPDATE t SET id = 0 WHERE id = 5");
  EXPECT_NE(masked(before, PageKind::Heap), masked(stored("t", 0), PageKind::Heap));
}

TEST_F(PagesOfAServer, AreKnownByTheirSpecialSpace) {
  server_.execute(
      "CREATE TABLE t AS SELECT g AS id, ARRAY[g] AS a, point(g, g) AS p "
      "FROM generate_series(1, 1000) g;"
      "CREATE INDEX bt ON t (id); CREATE INDEX ha ON t USING hash (id);"
      "CREATE INDEX gi ON t USING gin (a); CREATE INDEX gs ON t USING gist (p);"
      "CREATE INDEX sp ON t USING spgist (p); CREATE INDEX br ON t USING brin (id);"
      "CREATE SEQUENCE sq");
  const std::map<std::string, PageKind> kinds = {
      {"t", PageKind::Heap},  {"bt", PageKind::Btree},   {"ha", PageKind::Hash},
      {"gi", PageKind::Gin},  {"gs", PageKind::Gist},    {"sp", PageKind::SpGist},
      {"br", PageKind::Brin}, {"sq", PageKind::Sequence}};
  for (const auto& [relation, kind] : kinds) {
    const Bytes page = stored(relation, 0);
    EXPECT_EQ(guess_page_kind(page), kind) << relation;
    // What is masked once does not change again.
    const Bytes once = masked(page, kind);
    EXPECT_EQ(masked(once, kind), once) << relation;
  }
}

TEST_F(PagesOfAServer, KeepDeadIndexItemsApartOnlyBeforeMasking) {
  server_.execute(
      "CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 50) g;"
      "CREATE INDEX bt ON t (id)");
  server_.execute("DELETE FROM t WHERE id < 40");
  const Bytes before = stored("bt", 1);
  server_.execute(
      "SET enable_seqscan = off; SET enable_bitmapscan = off;"
      "SELECT count(*) FROM t WHERE id < 45");
  const Bytes killed = stored("bt", 1);
  ASSERT_NE(before, killed);
  EXPECT_EQ(masked(before, PageKind::Btree), masked(killed, PageKind::Btree));
}

TEST_F(PagesOfAServer, OfASequenceDifferInValuesLoggedAheadOnlyBeforeMasking) {
  server_.execute("CREATE SEQUENCE sq; SELECT nextval('sq')");
  const Bytes before = stored("sq", 0);
  server_.execute("SELECT nextval('sq')");
  const Bytes after = stored("sq", 0);
  ASSERT_NE(before, after);
  EXPECT_EQ(masked(before, PageKind::Sequence), masked(after, PageKind::Sequence));
}

TEST(MaskPage, LeavesImpossiblePagesAlone) {
  Bytes page(kPageBytes, std::byte{0xAB});
  const Bytes original = page;
  mask_page(page, PageKind::Heap, 0, {});
  EXPECT_EQ(page, original);
  Bytes zero(kPageBytes);
  mask_page(zero, PageKind::Heap, 0, {});
  EXPECT_TRUE(page_is_zero(zero));
}

}  // namespace
}  // namespace holdfast::postgres
