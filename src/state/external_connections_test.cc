#include "state/external_connections.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"

namespace holdfast::state {
namespace {

class ExternalConnectionsTest : public ::testing::Test {
 protected:
  static std::filesystem::path make_directory() {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-state-XXXXXX").string();
    return mkdtemp(name.data());
  }
  ~ExternalConnectionsTest() override { std::filesystem::remove_all(store_); }

  std::filesystem::path store_ = make_directory();
  Database database_{store_};
  ExternalConnections connections_{database_};
};

TEST_F(ExternalConnectionsTest, KeepsEachNameOnce) {
  EXPECT_TRUE(connections_.create({.name = "b", .uri = "s3://b", .owner = "ann"}));
  EXPECT_TRUE(connections_.create({.name = "a", .uri = "s3://a", .owner = "ann"}));
  EXPECT_FALSE(connections_.create({.name = "a", .uri = "s3://other", .owner = "bob"}));
  ASSERT_EQ(connections_.list().size(), 2U);
  EXPECT_EQ(connections_.list()[0].name, "a");
  EXPECT_EQ(connections_.find("a")->uri, "s3://a");
  EXPECT_EQ(connections_.find("c"), std::nullopt);
}

TEST_F(ExternalConnectionsTest, ChangesAndRemoves) {
  connections_.create({.name = "a", .uri = "s3://a", .owner = "ann"});
  EXPECT_TRUE(connections_.set_uri("a", "s3://b"));
  EXPECT_EQ(connections_.find("a")->uri, "s3://b");
  EXPECT_EQ(connections_.find("a")->owner, "ann");
  EXPECT_TRUE(connections_.remove("a"));
  EXPECT_FALSE(connections_.remove("a"));
  EXPECT_FALSE(connections_.set_uri("a", "s3://c"));
}

TEST_F(ExternalConnectionsTest, ForgetsGrantsWithTheConnection) {
  connections_.create({.name = "a", .uri = "s3://a", .owner = "ann"});
  connections_.grant("a", "bob", "usage");
  connections_.grant("a", "bob", "usage");
  connections_.grant("a", "public", "usage");
  EXPECT_EQ(connections_.grantees("a", "usage"), (std::vector<std::string>{"bob", "public"}));
  connections_.revoke("a", "public", "usage");
  EXPECT_EQ(connections_.grantees("a", "usage"), std::vector<std::string>{"bob"});
  EXPECT_TRUE(connections_.grantees("a", "drop").empty());
  connections_.remove("a");
  connections_.create({.name = "a", .uri = "s3://other", .owner = "ann"});
  EXPECT_TRUE(connections_.grantees("a", "usage").empty());
}

TEST_F(ExternalConnectionsTest, RefusesAUriThatWasCopiedIntoAnotherRow) {
  connections_.create({.name = "a", .uri = "s3://a", .owner = "ann"});
  connections_.create({.name = "b", .uri = "s3://b", .owner = "ann"});
  {
    Transaction transaction(database_);
    transaction.execute(
        "UPDATE external_connections SET uri = "
        "(SELECT uri FROM external_connections WHERE name = 'b') WHERE name = 'a'");
    transaction.commit();
  }
  EXPECT_THROW(connections_.find("a"), Error);
}

TEST_F(ExternalConnectionsTest, WritesNoSecretInClear) {
  connections_.create({.name = "a", .uri = "s3://a?AWS_SECRET_ACCESS_KEY=hush", .owner = "ann"});
  for (const auto& file : std::filesystem::directory_iterator(store_)) {
    std::ifstream in(file.path(), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(text.find("hush"), std::string::npos) << file.path();
  }
}

}  // namespace
}  // namespace holdfast::state
