#include "postgres/page.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <random>

#include "postgres/crc32c.h"
#include "postgres/relation_path.h"
#include "postgres/testing/private_instance.h"

namespace holdfast::postgres {
namespace {

Bytes random_pages(std::size_t count) {
  std::mt19937_64 random(4711);
  Bytes pages(count * kPageBytes);
  for (auto& byte : pages) byte = static_cast<std::byte>(random());
  for (std::size_t i = 0; i < count; ++i) {
    const auto page = MutableByteView(pages).subspan(i * kPageBytes, kPageBytes);
    store<std::uint16_t>(page, 14, 100);
    store<std::uint16_t>(page, 8, page_checksum(page, static_cast<std::uint32_t>(i)));
  }
  return pages;
}

std::vector<std::uint32_t> bad_pages(ByteView pages, std::uint32_t first = 0) {
  std::vector<std::uint32_t> bad;
  verify_pages(pages, first, bad);
  return bad;
}

// Pages of all kinds that a real server wrote, so that the algorithm is PostgreSQL's.
TEST(PageChecksum, HoldsForEveryPageOfARealCluster) {
  testing::PrivateInstance server;
  server.execute(
      "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 20000) g;"
      "CREATE INDEX ON t (id); CREATE INDEX ON t USING hash (v); DELETE FROM t WHERE id % 3 = 0;");
  server.execute("VACUUM t");
  server.stop();
  std::size_t pages = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(server.data_directory())) {
    const auto path = parse_relation_path(
        std::filesystem::relative(entry.path(), server.data_directory()).string());
    if (!path || !entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    ASSERT_EQ(content.size() % kPageBytes, 0U);
    EXPECT_TRUE(bad_pages(as_bytes(content)).empty()) << entry.path();
    pages += content.size() / kPageBytes;
  }
  EXPECT_GT(pages, 900U);
}

TEST(VerifyPages, NamesTheDamagedOnes) {
  Bytes pages = random_pages(11);
  EXPECT_TRUE(bad_pages(pages).empty());
  pages[2 * kPageBytes + 4000] ^= std::byte{1};
  pages[10 * kPageBytes + 8191] ^= std::byte{0x80};
  EXPECT_EQ(bad_pages(pages), (std::vector<std::uint32_t>{2, 10}));
}

TEST(VerifyPages, MixesInTheBlockNumber) {
  const Bytes pages = random_pages(1);
  EXPECT_TRUE(bad_pages(pages, 0).empty());
  EXPECT_EQ(bad_pages(pages, 131072), (std::vector<std::uint32_t>{131072}));
}

TEST(VerifyPages, AcceptsOnlyAllZerosForAPageNeverInitialised) {
  Bytes pages(5 * kPageBytes);
  EXPECT_TRUE(bad_pages(pages).empty());
  pages[3 * kPageBytes + 8190] = std::byte{1};
  EXPECT_EQ(bad_pages(pages), (std::vector<std::uint32_t>{3}));
  pages[3 * kPageBytes + 8190] = std::byte{0};
  pages[3 * kPageBytes] = std::byte{1};
  EXPECT_EQ(bad_pages(pages), (std::vector<std::uint32_t>{3}));
}

TEST(VerifyPages, GivesTheSameInGroupsAndAlone) {
  Bytes pages = random_pages(9);
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    pages[random() % pages.size()] ^= static_cast<std::byte>(1U << random() % 8);
    std::vector<std::uint32_t> alone;
    for (std::uint32_t block = 0; block < 9; ++block) {
      const auto page = ByteView(pages).subspan(block * kPageBytes, kPageBytes);
      if (!page_is_valid(page, block)) alone.push_back(block);
    }
    ASSERT_EQ(bad_pages(pages), alone);
  }
}

TEST(PageHeader, IsReadInPostgresOrder) {
  Bytes page(kPageBytes);
  store<std::uint32_t>(page, 0, 0x16);
  store<std::uint32_t>(page, 4, 0xB374D848);
  store<std::uint16_t>(page, 12, 28);
  store<std::uint16_t>(page, 14, 8000);
  store<std::uint16_t>(page, 16, 8192);
  const PageHeader header = parse_page_header(page);
  EXPECT_EQ(header.lsn, Lsn{0x16B374D848});
  EXPECT_EQ(header.lower, 28);
  EXPECT_EQ(header.upper, 8000);
  EXPECT_EQ(header.special, 8192);
}

TEST(Crc32c, MatchesThePublishedCheckValue) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xE3069283U);
  EXPECT_EQ(crc32c_portable(as_bytes("123456789")), 0xE3069283U);
}

TEST(Crc32c, IsTheSameWithAndWithoutTheInstruction) {
  const Bytes bytes = random_pages(1);
  for (std::size_t from = 0; from < 9; ++from) {
    for (std::size_t length = 0; length < 70; ++length) {
      const auto part = ByteView(bytes).subspan(from, length);
      ASSERT_EQ(crc32c(part), crc32c_portable(part));
      ASSERT_EQ(crc32c(part.subspan(length / 2), crc32c(part.first(length / 2))), crc32c(part));
    }
  }
}

}  // namespace
}  // namespace holdfast::postgres
