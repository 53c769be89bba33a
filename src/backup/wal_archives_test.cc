#include "backup/wal_archives.h"

#include <gtest/gtest.h>

namespace holdfast::backup {
namespace {

TEST(WalArchives, NameTheSlotForTheCollectionNotForItsCredentials) {
  const std::string name =
      archive_slot_name("s3://b/x?AWS_ENDPOINT=http://a&AWS_SECRET_ACCESS_KEY=1");
  EXPECT_EQ(name.size(), 25U);
  EXPECT_TRUE(name.starts_with("holdfast_"));
  EXPECT_EQ(name, archive_slot_name("s3://b/x/?AWS_SECRET_ACCESS_KEY=2&AWS_ENDPOINT=http://a"));
  EXPECT_EQ(name, archive_slot_name("s3://b/x?AUTH=implicit&AWS_ENDPOINT=http://a"));
  EXPECT_NE(name, archive_slot_name("s3://b/x?AWS_ENDPOINT=http://other"));
  EXPECT_NE(name, archive_slot_name("s3://b/y?AWS_ENDPOINT=http://a"));
  EXPECT_NE(archive_slot_name("nodelocal://1/a"), archive_slot_name("nodelocal://1/b"));
}

}  // namespace
}  // namespace holdfast::backup
