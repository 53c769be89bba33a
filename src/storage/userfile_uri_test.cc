#include "storage/userfile_uri.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace holdfast::storage {
namespace {

TEST(UserfileUri, NamesTablesOfItsUser) {
  const UserfilePlace place = parse_userfile_uri("userfile:///a//b%20c/", "alice");
  EXPECT_EQ(place.files_table(), "userfiles_alice_upload_files");
  EXPECT_EQ(place.payload_table(), "userfiles_alice_upload_payload");
  EXPECT_EQ(place.path, "a/b c");
  EXPECT_EQ(place.uri(), "userfile://postgres.public.userfiles_alice/a/b%20c");
  EXPECT_EQ(parse_userfile_uri("userfile:///", "Al").prefix, "userfilesx_416c");
  EXPECT_EQ(own_userfile_uri("userfile:///x", "alice"),
            "userfile://postgres.public.userfiles_alice/x");
  EXPECT_EQ(own_userfile_uri("s3://b/x", "alice"), "s3://b/x");
}

TEST(UserfileUri, NamesOtherTables) {
  const UserfilePlace place = parse_userfile_uri("USERFILE://bank.S.files/x", "");
  EXPECT_EQ(place.database, "bank");
  EXPECT_EQ(place.schema, "S");
  EXPECT_EQ(place.prefix, "files");
  EXPECT_EQ(parse_userfile_uri(place.uri(), "bob").uri(), place.uri());
}

TEST(UserfileUri, RefusesWhatNamesNoTables) {
  for (const std::string& uri :
       {std::string("userfile://a.b/x"), std::string("userfile://a..c/x"),
        std::string("userfile:///x?AUTH=implicit"), std::string("userfile://a.b.c/../x"),
        "userfile://a.b." + std::string(49, 'c') + "/x"}) {
    EXPECT_THROW(parse_userfile_uri(uri, "alice"), Error) << uri;
  }
  EXPECT_THROW(parse_userfile_uri("userfile:///x", ""), Error);
  EXPECT_THROW(parse_userfile_uri("userfile:///x", std::string(63, 'u')), Error);
  EXPECT_FALSE(is_userfile("userfile"));
  EXPECT_FALSE(is_userfile("external://userfile://"));
}

TEST(UserfileUri, CleansPaths) {
  EXPECT_EQ(clean_userfile_path("/a//./b/../c/"), "a/c");
  EXPECT_EQ(clean_userfile_path("../a"), "a");
  EXPECT_EQ(clean_userfile_path("a/b"), "a/b");
  EXPECT_EQ(clean_userfile_path("."), "");
}

}  // namespace
}  // namespace holdfast::storage
