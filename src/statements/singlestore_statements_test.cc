#include "statements/singlestore_statements.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "sql/parser.h"
#include "statements/history_statements.h"

namespace holdfast::statements {
namespace {

std::string uri_of(const std::string& place, const std::string& database = "bank") {
  const auto statement = std::get<sql::SingleStoreBackup>(sql::parse("BACKUP d TO " + place));
  return collection_uri(statement.place, collection_name(database, BackupKind::Full),
                        "/srv/backups/");
}

TEST(SingleStore, APlaceHasACollectionForEachDatabase) {
  EXPECT_EQ(uri_of("'today'"), "nodelocal://self/today/bank.backup");
  EXPECT_EQ(uri_of("'./a b/'"), "nodelocal://self/a%20b/bank.backup");
  EXPECT_EQ(uri_of("'/srv/backups/today'"), "nodelocal://self/today/bank.backup");
  EXPECT_EQ(uri_of("'today/bank.backup'"), "nodelocal://self/today/bank.backup");
  EXPECT_EQ(uri_of("'today/bank.incr_backup'"), "nodelocal://self/today/bank.incr_backup");
  EXPECT_EQ(uri_of("'external://vault/x'"), "external://vault/x/bank.backup");
  EXPECT_EQ(uri_of("'s3://b/p/?AUTH=implicit'"), "s3://b/p/bank.backup?AUTH=implicit");
  EXPECT_EQ(uri_of("S3 'b/p' CONFIG '{\"region\": \"x\"}'"),
            "s3://b/p/bank.backup?AWS_REGION=x&AUTH=implicit");
  EXPECT_EQ(uri_of("AZURE 'c' CREDENTIALS '{\"account_name\": \"n\", \"account_key\": \"k\"}'"),
            "azure-blob://c/bank.backup?AZURE_ACCOUNT_KEY=k&AZURE_ACCOUNT_NAME=n");
  // Decoded once by the URI, it has no "/" for the file system.
  EXPECT_EQ(uri_of("'x'", "a/../ü"), "nodelocal://self/x/a%252F..%252F%25C3%25BC.backup");
  EXPECT_EQ(collection_name("bank", BackupKind::Incremental), "bank.incr_backup");
}

TEST(SingleStore, RefusesPathsOutside) {
  for (const char* place : {"'/etc/x'", "'/srv/backups2/x'", "'x' CREDENTIALS '{}'"}) {
    EXPECT_THROW(uri_of(place), Error) << place;
  }
}

TEST(SingleStore, TheHistoryTellsWhatWasAskedFor) {
  const auto place =
      place_of("BACKUP DATABASE bank INTO '/2026/11/20-223000.00' IN 's3://b/bank.incr_backup'",
               "BACKUP DATABASE bank WITH INIT TO S3 'b' CREDENTIALS '*****' TAGS ('a', 'b')");
  EXPECT_EQ(place.type, "INCR_INIT");
  EXPECT_EQ(place.tags, "a,b");
  EXPECT_EQ(place.databases, "bank");
  EXPECT_EQ(place.path, "s3://b/bank.incr_backup");
  const auto next =
      place_of("BACKUP DATABASE bank INTO '/2026/11/20-223000.00' IN 's3://b/bank.incr_backup'",
               "BACKUP DATABASE bank WITH DIFFERENTIAL TO S3 'b'");
  EXPECT_EQ(next.type, "INCR_DIFF");
  EXPECT_TRUE(next.incremental);
  EXPECT_FALSE(next.tags);
  EXPECT_EQ(
      place_of("BACKUP INTO '/2026/11/20-223000.00' IN 'x'", "BACKUP INTO LATEST IN 'x'").type,
      "INCR_DIFF");
}

}  // namespace
}  // namespace holdfast::statements
